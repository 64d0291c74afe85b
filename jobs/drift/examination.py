"""The three questions asked of one window: is it whole, has it changed, does that do harm."""

from dataclasses import dataclass

from jobs.drift.blocks import blocks_of
from jobs.drift.change import Change, Measure, compare, judge_change, our_own
from jobs.drift.evidence import CalibrationBin
from jobs.drift.frame import Frame
from jobs.drift.harm import calibration_bins, judge_harm
from jobs.drift.labelled import count_labelled, labelled
from jobs.drift.validity import LEAST_ROWS, Counts, Rate, judge_validity, not_enough
from jobs.drift.words import capital
from models.drift_report import Severity, Tier, TierName, worst

LEAST_REFERENCE = 100
"""Rows that a reference must have."""


@dataclass(frozen=True, slots=True)
class Window:
    """Answered and failed rows, those with feedback, what was before, and how much traffic there was then and now."""

    rows: Frame
    labelled: Frame | None = None
    before: Counts | None = None
    rate: Rate | None = None


@dataclass(frozen=True, slots=True)
class Examination:
    """The tiers, and what is behind them. `change` is None where there was not enough data."""

    tiers: tuple[Tier, Tier, Tier]
    change: Change | None = None
    reference_calibration: tuple[CalibrationBin, ...] = ()
    calibration: tuple[CalibrationBin, ...] = ()

    @property
    def severity(self) -> Severity:
        """Of the worst tier; where nothing was found, unknown if nothing could be said of drift."""
        found = worst([tier.severity for tier in self.tiers])
        return "unknown" if found == "ok" and self.tiers[1].severity == "unknown" else found

    @property
    def words(self) -> str:
        """What the tiers say that is no good news."""
        told = [tier.words for tier in self.tiers if tier.severity in ("warning", "critical")]
        unknown = [tier.words for tier in self.tiers if tier.severity == "unknown"]
        return " ".join(dict.fromkeys([*told, *unknown])) or "The traffic is whole and as in the reference."


def examine(reference: Frame, window: Window, measure: Measure = our_own) -> Examination:
    """Ask all three."""
    validity = judge_validity(reference, window.rows, window.before, window.rate)
    if window.rows.rows < LEAST_ROWS:
        words = capital(not_enough(window.rows.rows)) + "."
        return Examination((validity, _unknown("drift", words), _unknown("harm", words)))
    answered = window.rows.answered()
    if answered.rows < LEAST_ROWS or reference.rows < LEAST_REFERENCE:
        words = _too_few(answered.rows, reference.rows)
        return Examination((validity, _unknown("drift", words), _unknown("harm", words)))
    between = compare(reference, answered, blocks_of(reference), blocks_of(answered))
    change = judge_change(between, measure)
    with_feedback = labelled(window.labelled, blocks_of(window.labelled)) if window.labelled else None
    before = labelled(reference, between.reference_blocks)
    return Examination(
        (validity, change.tier, judge_harm(between, with_feedback, count_labelled(window.labelled))),
        change,
        calibration_bins(before),
        calibration_bins(with_feedback),
    )


def _unknown(name: TierName, words: str) -> Tier:
    return Tier(name=name, severity="unknown", words=words)


def _too_few(answered: int, reference: int) -> str:
    if reference < LEAST_REFERENCE:
        return f"Not enough data: the reference has {reference} rows, at least {LEAST_REFERENCE} are needed."
    return f"Not enough data: {answered} predictions were answered, at least {LEAST_ROWS} are needed."
