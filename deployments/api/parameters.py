"""Parameters of a request: how they are described, and how they are read."""

import re
from typing import Any

from models.errors import InvalidRequest

_VERSION = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)


def parameter(name: str, place: str, description: str, schema: str) -> dict[str, Any]:
    """One parameter as OpenAPI describes it."""
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": {"type": schema},
    }


def version_of(value: str | None) -> int | None:
    """Read a version number. Raises InvalidRequest."""
    if value is None:
        return None
    if not _VERSION.fullmatch(value):
        raise InvalidRequest(f"version: expected a whole number from 1 on, got {value[:40]!r}")
    return int(value)
