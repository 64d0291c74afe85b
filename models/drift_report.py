"""What a drift job found: `report.json`, whose fields stay as they are."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Severity = Literal["ok", "warning", "critical", "unknown"]
"""`unknown`: not enough data, or nothing that could tell."""

ReferenceSource = Literal["validation", "traffic"]
TierName = Literal["validity", "drift", "harm"]

_ORDER: tuple[Severity, ...] = ("unknown", "ok", "warning", "critical")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Finding(_Part):
    """One thing that was looked at.

    `score` is compared with `warning` and `critical`: it is what `method` measures (psi, jensenshannon, wasserstein,
    auc, share, accuracy, ...). `effects` has everything that was measured of the column, by method. `p_value` is
    reported beside it, after Benjamini-Hochberg, where there is a test; it never decides. `reference` and `current`
    are means or shares. `words` tell a person what changed; `examples` are request ids to look at.
    """

    column: str
    method: str
    severity: Severity
    score: float | None = None
    warning: float | None = None
    critical: float | None = None
    p_value: float | None = None
    reference: float | None = None
    current: float | None = None
    effects: dict[str, float] = Field(default_factory=dict)
    words: str
    examples: tuple[str, ...] = ()


class Tier(_Part):
    """One of the three questions: is the data whole, has it changed, does that do harm."""

    name: TierName
    severity: Severity
    words: str
    findings: tuple[Finding, ...] = ()


class Window(_Part):
    """The traffic that was looked at; `rows` of them were read, which stand for `predictions`.

    `independent` is to how many unrelated predictions they amount: bursts of alike inputs tell as little as few.
    """

    since: datetime | None
    until: datetime | None
    rows: int = Field(ge=0)
    predictions: int = Field(ge=0)
    independent: float | None = None


class Reference(_Part):
    """What it is measured against: the `validation` set, or `traffic` that was frozen."""

    source: ReferenceSource
    rows: int = Field(ge=0)


class DriftReport(_Part):
    """All three tiers of one window."""

    schema_version: Literal[1] = 1
    model: str
    version: int
    created: datetime
    window: Window
    reference: Reference
    severity: Severity
    words: str
    tiers: tuple[Tier, ...]
    evidently: str | None = None  # name of Evidently's own page, in the same directory
    duration_s: float = 0.0


def worst(severities: list[Severity]) -> Severity:
    """The most serious one; `unknown` only where nothing is known."""
    return max(severities, key=_ORDER.index, default="unknown")
