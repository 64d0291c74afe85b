"""`tiltyard reference`."""

from datetime import timedelta
from typing import Annotated

import typer

from jobs.cli.carried_out import print_json
from jobs.cli.options import CONFIG, FileOption, JsonOption, StoreOption, parse_version
from jobs.cli.traffic_place import RootOption, beginning, traffic_tables
from jobs.printing import out
from models.durations import parse_duration
from models.errors import InvalidRequest
from models.store import DEFAULT_ROOT, Store


def reference(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The newest version by default.")],
    from_traffic: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Freeze so much of its production: 7d, 24h.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Of --from-traffic: from then on (7d ago, or 2026-11-21); from its first answer by default."),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Go back to the validation set.")] = False,
    file: FileOption = CONFIG,
    root: RootOption = None,
    store: StoreOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Show what the traffic of a version is compared with, or freeze early production for that.

    `publish` writes the validation set's rows into the version. Production looks different, as a rule: freeze its first
    days once you know that they were good. What was frozen replaces what was frozen before.

    tiltyard reference digits

    tiltyard reference digits@2 --from-traffic 7d
    """
    from jobs.reference_printing import print_reference
    from models.reference import find_reference

    opened = Store(store)
    model, version = parse_version(name, opened)
    if reset and from_traffic is not None:
        raise InvalidRequest("--reset and --from-traffic contradict each other")
    if since is not None and from_traffic is None:
        raise InvalidRequest("--since is the beginning of --from-traffic SPAN")
    if from_traffic is not None:
        from jobs.frozen_reference import freeze

        first = None if since is None else beginning(since)
        freeze(opened, traffic_tables(root, file), model, version, _span(from_traffic), first)
    elif reset:
        from jobs.frozen_reference import unfreeze

        if not unfreeze(opened, model, version) and not as_json:
            out.print("Nothing was frozen.")
    found = find_reference(opened, model, version)
    if as_json:
        told = None if found is None else {"rows": found.rows, **found.origin.model_dump(mode="json")}
        print_json(model=model, version=version, reference=told)
    else:
        print_reference(model, version, found)


def _span(text: str) -> timedelta:
    try:
        span = parse_duration(text)
    except ValueError as error:
        raise InvalidRequest(f"--from-traffic {error}") from None
    if span <= timedelta(0):
        raise InvalidRequest(f"--from-traffic {text!r}: expected more than nothing")
    return span
