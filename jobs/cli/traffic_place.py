"""Where the commands find the traffic, and which part of it they look at."""

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.printing import err
from models.durations import parse_duration
from models.errors import Conflict, InvalidRequest, TiltyardError
from models.store import resolve_root
from models.traffic_settings import TrafficLogSettings, root_uri

if TYPE_CHECKING:  # pyarrow and deltalake would make every command start later
    from models.traffic_tables import TrafficTables

READER_WAIT_S = 10.0
"""How long somebody else may be moving the spool on, for one who wants to read."""

SPOOL_VARIABLE = "TILTYARD_TRAFFIC_SPOOL"

RootOption = Annotated[
    str | None,
    typer.Option(
        "--root",
        envvar="TILTYARD_TRAFFIC",
        help="Where the traffic is logged: a directory or s3://...; by default as FILE says.",
        show_default=False,
    ),
]


def traffic_tables(root: str | None, file: Path) -> "TrafficTables":
    """The tables at `root`, else where the gateway of serve_config.yaml puts them, and in them what is spooled.

    Raises InvalidConfig.
    """
    from models.traffic_tables import TrafficTables

    return TrafficTables(up_to_now(root, file))


def up_to_now(root: str | None, file: Path) -> str:
    """Where these tables are; what Routers of this machine have spooled for them is moved there first.

    Where that cannot be they are read as they are, and that is said. Raises InvalidConfig.
    """
    if root is None:
        said = said_of_log(file)
        uri = _said_root(said)
    else:
        said, uri = {}, _typed(root)
        with suppress(TiltyardError):  # a file that somebody is changing keeps nobody from reading
            said = said_of_log(file)
    spool = _spool_of(uri, said)
    if spool is None:
        return uri
    try:
        _append(uri, spool)
    except (TiltyardError, OSError, ValueError) as error:
        why = error.message if isinstance(error, TiltyardError) else type(error).__name__
        err.print(f"What is spooled is not looked at, for it cannot be appended now: {why}", markup=False)
    return uri


def _append(uri: str, path: Path) -> None:
    """Move a spool on. Only who owns it does: what somebody else creates, the service might not be able to change."""
    from models.traffic_spooled import Spool

    spool = Spool(path)
    if not path.is_dir() or not any(writer.streams() for writer in spool.writers()):
        return
    if path.stat().st_uid != os.geteuid():
        raise Conflict("another user owns the spool")
    from jobs.traffic_append import alone, append_spooled
    from models.traffic_tables import TrafficTables

    with alone(spool, READER_WAIT_S):
        append_spooled(TrafficTables(uri), spool, {})


def _spool_of(uri: str, said: Mapping[str, Any]) -> Path | None:
    """What Routers of this machine write first before it comes to these tables; None where nothing says so.

    What is spooled for other tables must not come into these.
    """
    if uri == _said_root(said) and (spool := os.environ.get(SPOOL_VARIABLE) or said.get("spool")):
        return resolve_root(str(spool))
    return None if "://" in uri else Path(uri) / ".spool"


def _said_root(said: Mapping[str, Any]) -> str:
    return root_uri(str(said.get("root") or TrafficLogSettings.model_fields["root"].default))


def log_settings(
    file: Path,
    root: str | None = None,
    spool: Path | None = None,
    retention_days: int | None = None,
    inputs_retention_days: int | None = None,
) -> TrafficLogSettings:
    """What the file says of the traffic log, with what was given instead. Raises InvalidConfig.

    Routers give all of it: a file that somebody is changing must not stop them.
    """
    from jobs.serve_config import validated

    is_all_given = None not in (root, spool, retention_days, inputs_retention_days)
    said = {} if is_all_given else said_of_log(file)
    if root is not None:
        said.pop("spool", None)
        said["root"] = _typed(root)
    if spool is not None:
        said["spool"] = str(spool.resolve())
    if root is not None and "://" in root and spool is None:
        said["spool"] = "models/traffic/.spool"
    for name, days in (("retention_days", retention_days), ("inputs_retention_days", inputs_retention_days)):
        if days is not None:
            said[name] = days
    return validated(TrafficLogSettings, said, "traffic_log")


def _typed(root: str) -> str:
    """A directory relative to where it is typed, or a URI."""
    return root if "://" in root else str(Path(root).resolve())


def said_of_log(file: Path) -> dict[str, Any]:
    """What serve_config.yaml says of the traffic log; nothing where there is no such file. Raises InvalidConfig."""
    if not file.exists():
        return {}
    from jobs.serve_config import ServeConfig

    return dict(ServeConfig.read(file).gateway_args.get("traffic_log") or {})


def beginning(since: str) -> datetime:
    """The moment that long ago: `24h`, `30d`, or a time in ISO 8601. Raises InvalidRequest."""
    try:
        return datetime.now(UTC) - parse_duration(since)
    except OverflowError:
        raise InvalidRequest(f"--since {since!r} is too long") from None
    except ValueError as error:
        try:
            time = datetime.fromisoformat(since)
        except ValueError:
            raise InvalidRequest(f"--since {error}, or a time as in 2026-11-21T18:20:00Z") from None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
