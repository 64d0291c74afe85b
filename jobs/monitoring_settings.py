"""Where a command finds out when drift is looked for and who is told."""

import sys
from pathlib import Path

from pydantic import ValidationError

from jobs.serve_config import ServeConfig
from models.errors import InvalidConfig
from models.monitoring import MonitoringSettings


def read_settings(source: str) -> MonitoringSettings:
    """The args of the monitoring application in a serve_config.yaml; as JSON on standard input where it is `-`.

    Raises InvalidConfig.
    """
    if source == "-":
        return _from_json(sys.stdin.buffer.read())
    found = ServeConfig.read(Path(source)).monitoring
    if found is None:
        raise InvalidConfig(f"{source} has no monitoring application: docs/alerts.md shows one")
    return found


def _from_json(text: bytes) -> MonitoringSettings:
    try:
        return MonitoringSettings.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidConfig(f"settings: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
