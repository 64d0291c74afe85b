"""Where the commands find the traffic, and which part of it they look at."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.printing import err
from models.durations import parse_duration
from models.errors import InvalidRequest, TiltyardError
from models.traffic_settings import TrafficLogSettings

if TYPE_CHECKING:  # pyarrow and deltalake would make every command start later
    from models.traffic_tables import TrafficTables

WAIT_S = 60.0
"""How long somebody else may be moving the spool on."""

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
    """Where these tables are; what Routers of this machine have spooled is moved there first. Raises InvalidConfig.

    Where that fails they are read as they are, and that is said.
    """
    from models.traffic_spooled import Spool

    settings = log_settings(file if root is None else None, root)
    spool = Spool(settings.spool_path)
    if not any(writer.streams() for writer in spool.writers()):
        return settings.root_uri
    from jobs.traffic_append import alone, append_spooled
    from models.traffic_tables import TrafficTables

    try:
        with alone(spool, WAIT_S):
            append_spooled(TrafficTables(settings.root_uri), spool, {})
    except (TiltyardError, OSError) as error:
        said = error.message if isinstance(error, TiltyardError) else f"{type(error).__name__}: {error.strerror}"
        err.print(f"What is spooled could not be appended, and is not looked at: {said}", markup=False, soft_wrap=True)
    return settings.root_uri


def log_settings(
    file: Path | None,
    root: str | None = None,
    spool: Path | None = None,
    retention_days: int | None = None,
    inputs_retention_days: int | None = None,
) -> TrafficLogSettings:
    """What the file, if any, says of the traffic log, with what was given instead. Raises InvalidConfig.

    Routers give all of it: a file that somebody is changing must not stop them.
    """
    from jobs.serve_config import validated

    is_all_given = None not in (root, spool, retention_days, inputs_retention_days)
    said = {} if is_all_given or file is None else said_of_log(file)
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
