"""A guard in words: how it is called, its state, and its numbers."""

from dataclasses import dataclass
from typing import Literal

from jobs.comparison import Check
from jobs.number_words import points

Colour = Literal["green", "yellow", "red", "grey"]


@dataclass(frozen=True, slots=True)
class State:
    """A colour that never stands alone: it comes with a mark and a word."""

    colour: Colour
    mark: str
    word: str


@dataclass(frozen=True, slots=True)
class GuardWords:
    """How a guard is called: a title, what a verdict is about, what its number means."""

    title: str
    about: str
    meaning: str


GUARDS = {
    "error_rate": GuardWords("Errors", "errors", "more failed requests than the champion has"),
    "p99": GuardWords("Slow answers", "speed", "how much slower the slowest answers are"),
    "disagreement": GuardWords("Disagreement", "agreement", "requests that it answers differently from the champion"),
    "confidence": GuardWords("Confidence", "confidence", "how far its confidence is from the champion's"),
    "accuracy": GuardWords("Accuracy", "accuracy", "more wrong answers than the champion has, by feedback"),
    "drift": GuardWords("Drift", "drift", "how far the traffic is from what it was trained on"),
}


def guard_words(name: str) -> GuardWords:
    """The words of a guard; a guard that is not known here is called by its name."""
    plain = name.replace("_", " ")
    return GUARDS.get(name) or GuardWords(plain.capitalize(), plain, "loss against the champion")


def check_state(check: Check) -> State:
    """The state of one guard."""
    return {
        "pass": State("green", "✓", "Within the limit"),
        "hold": State("yellow", "…", "Undecided"),
        "no data": State("grey", "–", "Nothing to judge by"),
        "rollback": State("red", "✗", "Beyond the limit"),
    }[check.decision]


def needed_words(check: Check) -> str:
    """`3,200 more requests`, compared or with feedback as often as so far; empty where nothing is needed."""
    return f"{check.needed:,} more requests" if check.needed else ""


def estimate(check: Check) -> str:
    """The loss with its interval and limit: `+0.1 points (−1 to +1.2), limit +2`."""
    if check.loss is None:
        return "nothing measured yet"
    unit = " times" if is_ratio(check) else " points"
    between = (
        ""
        if check.low is None or check.high is None
        else f" ({_number(check, check.low)} to {_number(check, check.high)})"
    )
    limit = "" if check.limit is None else f", limit {_number(check, check.limit)}"
    return f"{_number(check, check.loss)}{unit}{between}{limit}"


def is_ratio(check: Check) -> bool:
    """Whether a check's numbers are ratios to the champion (1 is equal) and not differences of shares (0 is)."""
    return check.name == "p99" and check.limit is not None and check.limit > 1


def _number(check: Check, value: float) -> str:
    return f"{value:.3g}" if is_ratio(check) else points(value)
