"""Moments as people type them: `24h` ago, or a date."""

import re
from datetime import UTC, datetime, timedelta

from models.errors import InvalidRequest

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def span(text: str) -> timedelta:
    """Read `90s`, `30m`, `24h`, `7d`, `2w`. Raises InvalidRequest."""
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if matched is None:
        raise InvalidRequest(f"{text!r}: expected a time span, as 24h or 7d")
    return timedelta(**{_UNITS[matched[2]]: float(matched[1])})


def moment(text: str | None, now: datetime) -> datetime | None:
    """Read a span before `now`, or a date or time in ISO 8601, UTC where it names no zone. Raises InvalidRequest."""
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - span(text)
        except (InvalidRequest, OverflowError):
            raise InvalidRequest(f"{text!r}: expected 24h or 7d ago, or a time as 2026-11-21T18:00") from None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
