"""The command `tiltyard compare`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from jobs.comparison import Comparison, fetch
from jobs.comparison_table import print_comparison
from jobs.printing import out
from jobs.service import DASHBOARD, Service
from models.errors import InvalidRequest
from models.store import check_name


def compare(
    name: Annotated[str, typer.Argument(help="Name of the model.")],
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write a page for people who were not there.", show_default=False),
    ] = None,
    gateway: Annotated[
        str | None, typer.Option(help="Where the gateway answers; the dashboard tells by default.", show_default=False)
    ] = None,
    address: Annotated[
        str,
        typer.Option("--address", envvar="RAY_DASHBOARD_ADDRESS", help="The Ray dashboard of the running service."),
    ] = DASHBOARD,
) -> None:
    """Show the variants of a model side by side: traffic, errors, latency, agreement, accuracy, the guards' verdict.

    The numbers are of all that the Routers have seen of a version since they started; a verdict is about what it did
    since it was last set.

    tiltyard compare digits --html digits.html
    """
    check_name(name)
    found = fetch(gateway or Service(address).gateway_address, name)
    print_comparison(found)
    if html is not None:
        _write_page(found, html)


def _write_page(comparison: Comparison, path: Path) -> None:
    from jobs.comparison_page import comparison_page

    try:
        path.write_text(comparison_page(comparison, datetime.now(UTC)), encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"--html {path}: {error.strerror}") from None
    out.print(f"The page is written to {path}", markup=False, soft_wrap=True)
