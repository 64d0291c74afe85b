"""What follows from the traffic of a rollout so far: wait, go on, or stop."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from models.checks import Check, Name, check
from models.guards import Stratum, questions
from models.policy import Guard

__all__ = ["Check", "Ruling", "Stratum", "Verdict", "judge"]

MAY_BE_SILENT: frozenset[Name] = frozenset({"disagreement", "confidence", "accuracy"})
"""Where nothing is compared, has classes or gets feedback, there is nothing to wait for."""

LOSSES: dict[Name, str] = {
    "error_rate": "the error rate is worse by",
    "p99": "beyond the 1 % that may be slower than the allowed multiple of the champion's p99 are",
    "disagreement": "it disagrees with the champion on",
    "confidence": "the mean confidence differs by",
    "accuracy": "the accuracy is worse by",
}

Ruling = Literal["hold", "pass", "rollback"]
"""Wait, go on, or stop."""


class Verdict(BaseModel):
    """The decision, the checks it rests on, and the reason in one sentence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decision: Ruling
    because: str
    checks: tuple[Check, ...]


def judge(strata: Sequence[Stratum], guard: Guard, patience_ms: float | None = None) -> Verdict:
    """Judge a challenger or shadow by all of its traffic, one stratum for each split it went through.

    `patience_ms` is how long a challenger is waited for; the champion is held to it, too.

    May be asked as often as one likes. An equal challenger is ever stopped with chance `guard.significance` at most,
    divided among the guards that are on; one that is worse by an accepted loss ever passes with that chance at most,
    undivided, because all must pass.
    """
    asked = tuple(questions(strata, guard, patience_ms))
    alpha = guard.significance
    requests = sum(each.challenger.requests for each in strata)
    checks = tuple(check(each, alpha / len(asked), alpha, requests) for each in asked)
    stopping = [each for each in checks if each.decision == "rollback"]
    if stopping:
        return Verdict(decision="rollback", because="; ".join(map(_finding, stopping)), checks=checks)
    waiting = [each for each in checks if each.decision == "hold" or _is_missing(each)]
    if waiting:
        return Verdict(decision="hold", because=_what_is_missing(waiting), checks=checks)
    passed = [each.name for each in checks if each.decision == "pass"]
    because = f"within what is accepted: {', '.join(passed)}" if passed else "no guard is on"
    return Verdict(decision="pass", because=because, checks=checks)


def _is_missing(each: Check) -> bool:
    return each.decision == "no data" and each.name not in MAY_BE_SILENT


def _finding(each: Check) -> str:
    assert each.loss is not None
    assert each.low is not None
    return f"{LOSSES[each.name]} {_points(each.loss)} (at least {_points(each.low)}, {_points(each.limit)} accepted)"


def _what_is_missing(waiting: Sequence[Check]) -> str:
    silent = [each.name for each in waiting if each.decision == "no data"]
    if silent:
        return f"nothing to judge by yet: {', '.join(silent)}"
    slowest = max(waiting, key=lambda each: float("inf") if each.needed is None else each.needed)
    assert slowest.loss is not None
    assert slowest.high is not None
    seen = f"{LOSSES[slowest.name]} {_points(slowest.loss)}, at most {_points(slowest.high)}"
    more = "no end in sight" if slowest.needed is None else f"about {slowest.needed:,} more requests to pass"
    return f"{seen} where {_points(slowest.limit)} is accepted: {more}"


def _points(value: float) -> str:
    return f"{100 * value:.2f} points"
