"""Where the commands find the traffic, and which part of it they look at."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from models.durations import parse_duration
from models.errors import InvalidRequest
from models.traffic_tables import TrafficTables

DEFAULT_ROOT = "models/traffic"

RootOption = Annotated[
    str | None,
    typer.Option(
        "--root",
        envvar="TILTYARD_TRAFFIC",
        help="Where the traffic is logged: a directory or s3://...; by default as FILE says.",
        show_default=False,
    ),
]


def traffic_tables(root: str | None, file: Path) -> TrafficTables:
    """The tables at `root`, else where the gateway of serve_config.yaml puts them. Raises InvalidConfig."""
    return TrafficTables(root or _configured(file))


def _configured(file: Path) -> str:
    if not file.exists():
        return DEFAULT_ROOT
    from jobs.serve_config import ServeConfig

    settings = ServeConfig.read(file).gateway_args.get("traffic_log") or {}
    return str(settings.get("root") or DEFAULT_ROOT)


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
