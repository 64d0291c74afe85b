"""How traffic is logged: `traffic_log` of the gateway's args in serve_config.yaml."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.store import resolve_root
from models.traffic import Kind

_SPOOL: Final = ".spool"


class TrafficLogSettings(BaseModel):
    """What is remembered of the traffic, where, and for how long.

    `root` holds the tables: a directory (relative to the project's root) or `s3://bucket/prefix`, of which the AWS_*
    variables say the rest. `spool` is a directory of this machine, where records are written first; without it
    `<root>/.spool`. `sample` is the share of requests that is logged, `inputs` the share of predictions whose inputs
    are kept as well. What a Router has in memory goes to the spool every `flush_period_s` (and is lost to a kill), what
    is spooled to the tables every `append_period_s`. Where `max_buffered_records` or `max_spool_bytes` are reached,
    records are left out and counted. Whole days are removed after `retention_days`, inputs after
    `inputs_retention_days`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: Annotated[str, Field(min_length=1)] = "models/traffic"
    spool: str | None = None
    sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    inputs: Annotated[float, Field(ge=0, le=1)] = 0.0
    flush_period_s: Annotated[float, Field(gt=0, le=60)] = 0.5
    append_period_s: Annotated[float, Field(gt=0)] = 30.0
    max_buffered_records: Annotated[int, Field(ge=1)] = 100_000
    max_spool_bytes: Annotated[int, Field(ge=1)] = 1024**3
    retention_days: Annotated[int, Field(ge=1)] = 90
    inputs_retention_days: Annotated[int, Field(ge=1)] = 30

    @model_validator(mode="after")
    def _has_a_spool_here(self) -> "TrafficLogSettings":
        if self.spool is None and "://" in self.root:
            raise ValueError(f"spool: a directory of this machine must be given where root is {self.root}")
        return self

    @property
    def tables_root(self) -> str:
        """Where the tables are: an absolute path or an URL."""
        return self.root if "://" in self.root else str(resolve_root(self.root))

    @property
    def spool_path(self) -> Path:
        """Where the spool is."""
        return resolve_root(self.spool) if self.spool is not None else Path(self.tables_root, _SPOOL)

    @property
    def retention(self) -> dict[Kind, int]:
        """Days that records are kept, by kind."""
        return {
            "predictions": self.retention_days,
            "inputs": self.inputs_retention_days,
            "feedback": self.retention_days,
        }
