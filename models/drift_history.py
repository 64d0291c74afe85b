"""The drift runs of a model: a directory for each, with its report.json and its page."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from models.drift_report import DriftReport
from models.monitoring import drift_directory

REPORT = "report.json"
PAGE = "report.html"
NO_REFERENCE = 4
"""Exit status of `tiltyard drift` where there is nothing to compare with."""

KEPT_PAGES = 50
"""A page has megabytes; reports are kept for ever."""


def run_directory(traffic: str, model: str, version: int, time: datetime) -> Path:
    """Where a run at a time (UTC) writes: `<traffic>/drift/<model>/20261121T120000Z-v1`."""
    return drift_directory(traffic, model) / f"{time:%Y%m%dT%H%M%SZ}-v{version}"


def runs(traffic: str, model: str) -> Iterator[tuple[Path, DriftReport]]:
    """All runs that wrote a report, oldest first; one that cannot be read is left out."""
    for path in sorted(drift_directory(traffic, model).glob(f"*/{REPORT}")):
        try:
            yield path.parent, DriftReport.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue


def prune(traffic: str, model: str, kept: int = KEPT_PAGES) -> None:
    """Remove the pages of all runs but the newest ones. Raises OSError."""
    directories = sorted(path.parent for path in drift_directory(traffic, model).glob(f"*/{PAGE}"))
    for directory in directories[: max(0, len(directories) - kept)]:
        for page in directory.glob("*.html"):
            page.unlink(missing_ok=True)
