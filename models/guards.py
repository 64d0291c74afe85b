"""What each guard of a policy asks of the traffic."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models.checks import Question
from models.policy import Guard
from models.sequential import Arm, Comparison, rate
from models.variant_statistics import VariantStatistics

SLOW = 0.01
"""What is slower than the 99th percentile, by definition."""

MAX_SLOW_LOSS = 0.01
"""Passing says that at most 2 of 100 are too slow: to tell 1.1 from 1 would take a hundred times the traffic."""

MIN_CHAMPION_ANSWERS = 100
"""With fewer, the 99th percentile is only the slowest."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """What both versions did while the traffic was split in one way."""

    champion: VariantStatistics
    challenger: VariantStatistics


def questions(strata: Sequence[Stratum], guard: Guard, patience_ms: float | None = None) -> Iterator[Question]:
    """Yield one for each guard that is on.

    A challenger that does not answer within its patience has failed; so, when they are compared, has the champion.
    """
    total = Stratum(VariantStatistics(), VariantStatistics())
    for each in strata:
        total = Stratum(total.champion.add(each.champion), total.challenger.add(each.challenger))
    if guard.max_error_rate_loss is not None:
        yield _error_rate(strata, total, guard.max_error_rate_loss, patience_ms)
    if guard.max_p99_ratio is not None:
        yield _p99(strata, total, guard.max_p99_ratio)
    if guard.max_disagreement is not None:
        yield _disagreement(total, guard.max_disagreement, guard.tolerance)
    if guard.max_confidence_shift is not None:
        yield _confidence(strata, total, guard.max_confidence_shift)
    if guard.max_accuracy_loss is not None:
        yield _accuracy(strata, total, guard.max_accuracy_loss)


def _error_rate(strata: Sequence[Stratum], total: Stratum, limit: float, patience_ms: float | None) -> Question:
    arms = tuple((_failed(each.champion, patience_ms), _failed(each.challenger)) for each in strata)
    values = _mean(_failed(total.champion, patience_ms)), _mean(_failed(total.challenger))
    return Question("error_rate", (Comparison(arms),), limit, 0.0, limit / 2, *values)


def _failed(statistics: VariantStatistics, patience_ms: float | None = None) -> Arm:
    late = 0 if patience_ms is None else statistics.slower_than(patience_ms)
    return rate(statistics.failed + late, statistics.requests)


def _p99(strata: Sequence[Stratum], total: Stratum, ratio: float) -> Question:
    """Ask how many more than 1 of 100 answers are slower than `ratio` times the champion's 99th percentile.

    Each stratum has a percentile of its own: load, and so latency, changes with time. That the champion's is itself
    estimated is the variance of a rate of 1 %.
    """
    arms = []
    for each in strata:
        p99 = each.champion.quantile_ms(1 - SLOW)
        answers = each.champion.latency.total()
        if p99 is not None and answers >= MIN_CHAMPION_ANSWERS:
            slow = each.challenger.slower_than(ratio * p99)
            arms.append((rate(SLOW * answers, answers), rate(slow, each.challenger.latency.total())))
    values = total.champion.quantile_ms(1 - SLOW), total.challenger.quantile_ms(1 - SLOW)
    return Question("p99", (Comparison(tuple(arms)),), MAX_SLOW_LOSS, 0.0, MAX_SLOW_LOSS / 2, *values)


def _disagreement(total: Stratum, limit: float, tolerance: float | None) -> Question:
    """Ask of classes, and of other values where it is said how far apart they may be: retrained models differ there."""
    seen = total.challenger
    is_asked = bool(seen.pairs) or tolerance is not None
    arm = rate(seen.compared - seen.agreed, seen.compared) if is_asked else rate(0, 0)
    return Question("disagreement", (Comparison(((None, arm),)),), limit, limit, 0.0, None, _mean(arm))


def _confidence(strata: Sequence[Stratum], total: Stratum, limit: float) -> Question:
    """Ask in both directions: more confident is a shift too."""
    up = tuple((_confident(each.champion), _confident(each.challenger)) for each in strata)
    down = tuple((champion.complement(), challenger.complement()) for champion, challenger in up)
    values = _mean(_confident(total.champion)), _mean(_confident(total.challenger))
    return Question("confidence", (Comparison(up), Comparison(down)), limit, limit, 0.0, *values)


def _confident(statistics: VariantStatistics) -> Arm:
    return Arm(statistics.confident, statistics.confidence, statistics.confidence_squares)


def _accuracy(strata: Sequence[Stratum], total: Stratum, limit: float) -> Question:
    """Ask request by request where most of the feedback is about requests that both answered, else arm against arm.

    Which of the two depends on how much was compared and not on who was right, so choosing costs no certainty.
    """
    seen = total.challenger
    if seen.both_labelled and 2 * seen.both_labelled >= seen.labelled:
        values = seen.champion_correct / seen.both_labelled, seen.both_correct / seen.both_labelled
        paired = Comparison(((None, _paired(seen)),), baseline=0.5, scale=2.0)
        return Question("accuracy", (paired,), limit, 0.0, limit / 2, *values)
    arms = tuple((_wrong(each.champion), _wrong(each.challenger)) for each in strata)
    right = tuple(_mean(_wrong(each).complement()) for each in (total.champion, total.challenger))
    return Question("accuracy", (Comparison(arms),), limit, 0.0, limit / 2, *right)


def _wrong(statistics: VariantStatistics) -> Arm:
    return rate(statistics.labelled - statistics.correct, statistics.labelled)


def _paired(statistics: VariantStatistics) -> Arm:
    """Count 1 where only the champion was right, 0 where only the challenger was, 1/2 where they did not differ."""
    count, champion, challenger = statistics.both_labelled, statistics.champion_correct, statistics.both_correct
    most = min(2 * count - champion - challenger, count)
    differ = min(champion + challenger - 2 * statistics.both_right, most)
    lost = (differ + champion - challenger) / 2
    return Arm(count, (count + champion - challenger) / 2, lost + (count - differ) / 4)


def _mean(arm: Arm) -> float | None:
    return float(arm.mean) if arm.count else None
