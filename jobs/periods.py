"""The steps of a trend."""

from datetime import timedelta
from typing import Literal

By = Literal["hour", "day", "week"]
"""Weeks begin on Monday; all are of UTC."""

LENGTHS: dict[By, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}
