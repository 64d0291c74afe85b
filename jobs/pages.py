"""What the pages of the commands share: how their templates are filled in."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment(**filters: Callable[..., Any]) -> Environment:
    """The templates of this package; what is filled in is escaped, a name that is missing is an error."""
    made = Environment(
        loader=PackageLoader("jobs", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_unbroken,
    )
    made.filters.update(filters, moment=moment)
    return made


def moment(time: datetime) -> str:
    """A time to the second, with its zone."""
    zone = "" if time.tzinfo is None else f" {time:%Z}"
    return f"{time:%Y-%m-%d %H:%M:%S}{zone}"


def _unbroken(value: Any) -> Any:
    """Keep a number and its unit on one line."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return re.sub(r"(?<=[\d<>]) (?=%|ms\b|s\b|points\b|times\b|\d)", "\u00a0", value)
    return value
