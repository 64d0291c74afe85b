"""What `tiltyard drift --notify` does with a report."""

from pathlib import Path

from jobs.alerts import Notice, notify
from jobs.monitoring_settings import read_settings
from models.drift_report import DriftReport
from models.errors import ServiceError


def notify_as_configured(report: DriftReport, page: Path, root: str, source: str) -> Notice:
    """Tell whoever `source` names (see read_settings) of a report in the traffic log under `root`.

    Raises InvalidConfig, and ServiceError where somebody could not be told, a command failed, or nothing can be noted.
    """
    try:
        notice = notify(report, read_settings(source), root, page)
    except OSError as error:
        raise ServiceError(f"the incidents of {report.model} cannot be noted: {error.strerror}") from None
    if notice.failures:
        raise ServiceError("; ".join(notice.failures))
    return notice
