"""Where the commands find the traffic, and which part of it they look at."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.durations import parse_duration
from models.errors import InvalidRequest
from models.store import resolve_root
from models.traffic_settings import TrafficLogSettings

if TYPE_CHECKING:  # pyarrow and deltalake would make every command start later
    from models.traffic_tables import TrafficTables

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
    """The tables at `root`, else where the gateway of serve_config.yaml puts them. Raises InvalidConfig."""
    from models.traffic_tables import TrafficTables

    return TrafficTables(traffic_root(root, file))


def traffic_root(root: str | None, file: Path) -> str:
    """Where the tables are: `root`, relative to where it is typed, else as the file says. Raises InvalidConfig."""
    if root:
        return root if "://" in root else str(Path(root).resolve())
    said = str(said_of_log(file).get("root") or TrafficLogSettings.model_fields["root"].default)
    return said if "://" in said else str(resolve_root(said))


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
