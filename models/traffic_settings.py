"""How traffic is logged: `traffic_log` of the gateway's args in serve_config.yaml."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.store import resolve_root
from models.traffic import Kind


def root_uri(root: str) -> str:
    """A URI as it is; a directory relative to the project's root, absolute."""
    return root if "://" in root else str(resolve_root(root))


class TrafficLogSettings(BaseModel):
    """What is remembered of the traffic, and where.

    `root` holds the tables: a directory, relative to the project's root, or `s3://bucket/prefix`. A Router writes into
    `spool`, by default `<root>/.spool`, every `flush_period_s`: with the 0.25 s that a record may wait for a comparison
    beside it, a kill costs no more than about a second. Every `append_period_s` what is spooled is moved into the
    tables, and before `tiltyard` reads them on the same machine: seldom, because the slowest requests feel it.
    `sample` is the share of requests that are recorded, with weight 1 / sample; `inputs` the share of those whose
    inputs themselves are kept. Of more than `max_buffered_records` that the disk does not take, and of what comes while
    the spool holds more than `max_spool_bytes`, the newest are lost, and counted. Rows are dropped after
    `retention_days`, kept inputs after `inputs_retention_days`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: Annotated[str, Field(min_length=1)] = "models/traffic"
    spool: str | None = None
    sample: Annotated[float, Field(gt=0, le=1)] = 1.0
    inputs: Annotated[float, Field(ge=0, le=1)] = 0.0
    flush_period_s: Annotated[float, Field(ge=0.05, le=0.7)] = 0.5
    append_period_s: Annotated[float, Field(ge=1)] = 300.0
    max_buffered_records: Annotated[int, Field(ge=1)] = 100_000
    max_spool_bytes: Annotated[int, Field(ge=1)] = 1024**3
    retention_days: Annotated[int, Field(ge=1)] = 90
    inputs_retention_days: Annotated[int, Field(ge=1)] = 30

    @model_validator(mode="after")
    def _spool_is_on_a_disk(self) -> "TrafficLogSettings":
        if self.spool is None and "://" in self.root:
            raise ValueError(f"spool: a directory is needed where root is {self.root!r}")
        if self.spool is not None and "://" in self.spool:
            raise ValueError("spool: must be a directory, whatever root is")
        return self

    @property
    def root_uri(self) -> str:
        """Where the tables are, absolute."""
        return root_uri(self.root)

    @property
    def spool_path(self) -> Path:
        """Where Routers write."""
        return resolve_root(self.spool) if self.spool is not None else resolve_root(self.root) / ".spool"

    @property
    def retention(self) -> dict[Kind, int]:
        """Days that rows are kept, by kind."""
        return {
            "predictions": self.retention_days,
            "inputs": self.inputs_retention_days,
            "feedback": self.retention_days,
        }
