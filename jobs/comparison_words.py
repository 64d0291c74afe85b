"""A comparison in words: the sentence a manager reads, and the states."""

from jobs.comparison import Check, Comparison, VariantReport
from jobs.guard_words import State, guard_words, needed_words
from jobs.number_words import enumerated, milliseconds, percent
from models.intervals import wilson

ENOUGH_FOR_SPEED = 100
"""Answers from which on a 99th percentile is more than the slowest one."""

SAME_SPEED = 1.1
"""Latencies closer than this are called equal; the sketch's buckets alone are 5 % wide."""


def state(report: VariantReport) -> State:
    """The state of a variant, the worst that is true of it."""
    decision = report.verdict.decision if report.verdict else None
    if report.variant == "champion":
        return State("grey", "★", "Champion")
    if report.stopped_because is not None:
        return State("red", "✗", "Stopped")
    if decision == "rollback":
        return State("red", "✗", "Fails a guard")
    if not report.statistics.requests:
        return State("grey", "–", "No traffic yet")
    if report.breaker not in (None, "closed"):
        return State("yellow", "‖", "Paused")
    if decision == "pass":
        return State("green", "✓", "Passed")
    if decision == "hold":
        return State("yellow", "…", "Undecided")
    return State("grey", "–", "Not judged")


def headlines(comparison: Comparison) -> list[tuple[State, str]]:
    """A state and one sentence for each challenger and shadow, or for the champion that is alone."""
    if not comparison.contenders:
        return [(_alone(comparison), _alone_sentence(comparison))]
    return [(state(report), headline(comparison, report)) for report in comparison.contenders]


def _alone(comparison: Comparison) -> State:
    if not comparison.champions.requests:
        return State("grey", "–", "No traffic yet")
    return State("grey", "★", "Champion alone")


def _alone_sentence(comparison: Comparison) -> str:
    alone = f"Version {comparison.champion} answers all of the traffic; no other version challenges it."
    return alone if comparison.champions.requests else f"{alone} No request has come yet."


def headline(comparison: Comparison, report: VariantReport) -> str:
    """How a challenger or shadow is doing, in a sentence or two."""
    name = f"Version {report.version}"
    if report.stopped_because is not None:
        reason = _sentence(report.stopped_because or "no reason is recorded")
        after = "It receives no more copies." if report.variant == "shadow" else "The champion answers in its place."
        return f"{name} was stopped: {reason} {after}"
    if not report.statistics.requests:
        return f"{name} {_waiting(report)}"
    doing = f"{name} {_part(report)}{_performance(comparison, report)}"
    if report.breaker not in (None, "closed"):
        paused = "It is paused after failures in a row"
        after = "." if report.variant == "shadow" else "; the champion answers in its place."
        return f"{doing}; {outlook(report)}. {paused}{after}"
    return f"{doing}; {outlook(report)}."


def _waiting(report: VariantReport) -> str:
    if report.variant == "shadow":
        return f"is to watch {percent(report.share)} of the traffic without answering; no copy has reached it yet."
    if report.share == 0:
        return "is loaded, but receives no traffic."
    return f"is to answer {percent(report.share)} of the traffic; no request has reached it yet."


def _part(report: VariantReport) -> str:
    if report.variant == "shadow":
        return f"watches {percent(report.share)} of the traffic without answering"
    return f"answers {percent(report.share)} of the traffic"


def _performance(comparison: Comparison, report: VariantReport) -> str:
    found = [words for words in (_agreement(report), _speed(comparison, report), _errors(comparison, report)) if words]
    return f", {enumerated(found)}" if found else ""


def _agreement(report: VariantReport) -> str:
    numbers = report.statistics
    if report.variant != "shadow" or not numbers.compared:
        return ""
    return f"agrees with the champion on {percent(numbers.agreed / numbers.compared)} of {numbers.compared:,} requests"


def _speed(comparison: Comparison, report: VariantReport) -> str:
    theirs, ours = comparison.champions, report.statistics
    if not theirs.p99_ms or not ours.p99_ms or min(theirs.answered, ours.answered) < ENOUGH_FOR_SPEED:
        return ""
    verb = "is " if report.variant == "shadow" else ""
    if 1 / SAME_SPEED <= ours.p99_ms / theirs.p99_ms <= SAME_SPEED:
        return f"{verb}as fast as the champion"
    word = "slower" if ours.p99_ms > theirs.p99_ms else "faster"
    return f"{verb}{word} than the champion (p99 {milliseconds(ours.p99_ms)} against {milliseconds(theirs.p99_ms)})"


def _errors(comparison: Comparison, report: VariantReport) -> str:
    theirs, ours = comparison.champions.error_rate, report.statistics.error_rate
    if theirs is None or ours is None:
        return ""
    verb = "fails" if report.variant == "shadow" else "with"
    decision = next((c.decision for c in _checks(report) if c.name == "error_rate"), "hold")
    if ours <= theirs:
        words = "no more often" if report.variant == "shadow" else "no more errors"
        return f"{verb} {words}" + ("" if decision == "pass" else " so far")
    much = {"pass": "slightly more", "rollback": "too many" if verb == "with" else "too"}.get(decision, "more")
    rates = f"({percent(ours)} against {percent(theirs)})"
    return f"{verb} {much} {'often' if verb == 'fails' else 'errors'} {rates}"


def outlook(report: VariantReport) -> str:
    """The verdict, or what is missing for one."""
    if report.verdict is None:
        return "no guard judges it"
    if report.verdict.decision == "pass":
        return "it has passed every guard"
    if report.verdict.decision == "rollback":
        return f"it fails: {report.verdict.because.rstrip('. ') or 'a guard objects'}"
    return missing(report) or report.verdict.because.rstrip(". ") or "there is no verdict yet"


def missing(report: VariantReport) -> str:
    """What is needed for a verdict; empty where no guard says so."""
    open_checks = [check for check in _checks(report) if check.decision == "hold"]
    counted = sorted((c for c in open_checks if c.needed), key=lambda c: c.needed or 0, reverse=True)
    if counted:
        most, rest = counted[0], [guard_words(check.name).about for check in counted[1:]]
        fewer = f", fewer on {enumerated(rest)}" if rest else ""
        return f"{needed_words(most)} are needed for a verdict on {guard_words(most.name).about}{fewer}"
    waiting = [guard_words(check.name).about for check in open_checks]
    return f"there is no verdict on {enumerated(waiting)} yet" if waiting else ""


def accuracy(report: VariantReport) -> str:
    """Accuracy by feedback with its 95 % interval; says so where there is no feedback."""
    numbers = report.statistics
    if not numbers.labelled:
        return "no feedback yet"
    low, high = wilson(numbers.correct, numbers.labelled)
    share = percent(numbers.correct / numbers.labelled)
    return f"{share} of {numbers.labelled:,} ({percent(low)} to {percent(high)})"


def _checks(report: VariantReport) -> tuple[Check, ...]:
    return report.verdict.checks if report.verdict else ()


def _sentence(text: str) -> str:
    stripped = text.strip()
    return stripped if stripped.endswith((".", "!", "?")) else f"{stripped}."
