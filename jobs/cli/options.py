"""Options and arguments that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

from models.errors import InvalidRequest
from models.manifest import ArtifactKind
from models.store import Store

StoreOption = Annotated[
    Path,
    typer.Option(
        "--store",
        envvar="TILTYARD_STORE",
        help="Directory of published versions.",
        show_default=False,
        resolve_path=True,
    ),
]
FileOption = Annotated[Path, typer.Option("--file", "-f", help="The configuration that is edited and applied.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would happen; change nothing.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", help="Seconds to wait for the service.")]
AddressOption = Annotated[
    str,
    typer.Option(
        "--address",
        envvar="RAY_DASHBOARD_ADDRESS",
        help="The Ray dashboard of the running service.",
    ),
]
ArtifactOption = Annotated[
    ArtifactKind | None, typer.Option("--artifact", help="Run this one, whatever is faster.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object; a refusal is one, too.")]
BecauseOption = Annotated[
    str | None,
    typer.Option("--because", help="The reason, for `tiltyard history`; the command by default.", show_default=False),
]
ByOption = Annotated[str, typer.Option("--by", help="Who decides.", hidden=True)]
ModelArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")]
VersionArgument = Annotated[int, typer.Argument(min=1, help="Its number.")]

CONFIG = Path("serve_config.yaml")


def parse_version(name: str, store: Store) -> tuple[str, int]:
    """Read NAME[@VERSION]; the newest version where none is given. Raises InvalidRequest, ModelNotFound."""
    model, _, number = name.partition("@")
    return model, version_number(number) if number else store.latest(model)


def version_number(text: str) -> int:
    """Read a version's number. Raises InvalidRequest."""
    if not text.isdecimal() or int(text) < 1:
        raise InvalidRequest(f"version {text!r}: expected a positive integer, as in digits@2")
    return int(text)
