"""One check of a challenger: an estimated loss, what it lies between, and what follows."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from models.sequential import Comparison, interval

Name = Literal["error_rate", "p99", "disagreement", "confidence", "accuracy"]
Decision = Literal["hold", "pass", "rollback", "no data"]

MOST_FURTHER = 1e4
"""A verdict that needs so many times the traffic there was is out of sight."""


class Check(BaseModel):
    """One guard's evidence.

    `loss` is the estimate, and `low` and `high` hold at every moment at once (models/sequential.py). The challenger is
    stopped when the low end is beyond what is harmless, and passes when the high end is below `limit`. `champion` and
    `challenger` are the rates, means or milliseconds compared. `needed` is roughly the number of further requests to
    the challenger until it passes if all goes on as it did; None where that is out of sight.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    decision: Decision
    limit: float
    loss: float | None = None
    low: float | None = None
    high: float | None = None
    champion: float | None = None
    challenger: float | None = None
    needed: int | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What a guard asks: losses in every direction that counts, and from where on a loss does harm.

    A challenger is stopped for a loss that is shown to be above `harmless` and estimated above `floor`.
    """

    name: Name
    comparisons: tuple[Comparison, ...]
    limit: float
    harmless: float
    floor: float
    champion: float | None
    challenger: float | None

    @property
    def has_data(self) -> bool:
        """Whether there is anything to judge by."""
        arms = self.comparisons[0].arms
        return any(arm.count and (champion is None or champion.count) for champion, arm in arms)


def check(question: Question, alpha_low: float, alpha_high: float, requests: int) -> Check:
    """Answer a question; `requests` were put to the challenger so far."""
    if not question.has_data:
        return Check(name=question.name, decision="no data", limit=question.limit)
    loss, low, high = bounds(question, alpha_low, alpha_high)
    decision = decide(loss, low, high, question)
    needed = 0 if decision == "pass" else None
    if decision == "hold":
        needed = further(lambda factor: bounds(question, alpha_low, alpha_high, factor)[2] < question.limit, requests)
    return Check(
        name=question.name,
        decision=decision,
        limit=question.limit,
        loss=loss,
        low=low,
        high=high,
        champion=question.champion,
        challenger=question.challenger,
        needed=needed,
    )


def bounds(question: Question, alpha_low: float, alpha_high: float, factor: float = 1.0) -> tuple[float, float, float]:
    """Estimate, low and high end in the worst direction, if there were `factor` times as much of the same traffic."""
    found = [interval(each.times(factor), question.limit, alpha_low, alpha_high) for each in question.comparisons]
    return (
        max(float(each.estimate) for each in found),
        max(float(each.low) for each in found),
        max(float(each.high) for each in found),
    )


def decide(loss: float, low: float, high: float, question: Question) -> Decision:
    """Stop what is shown to do harm, pass what is shown not to, else wait.

    A loss of less than half of what one accepts is no reason to stop, however surely it is there: with traffic
    enough every difference is sure.
    """
    if low > question.harmless and loss > question.floor:
        return "rollback"
    return "pass" if high < question.limit else "hold"


def further(passes: Callable[[float], bool], requests: int) -> int | None:
    """How many more requests make it pass; None where the traffic would have to grow out of sight."""
    if not passes(MOST_FURTHER):
        return None
    low, high = 0.0, math.log(MOST_FURTHER)
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if passes(math.exp(middle)) else (middle, high)
    return max(1, math.ceil(requests * (math.exp(high) - 1)))
