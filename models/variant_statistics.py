"""What is known of a variant's traffic: counts that add up over Routers and subtract over time."""

import math
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

GROWTH = 1.05
"""Each bucket's upper bound over the one before: quantiles are right to 2.5 %."""

SMALLEST_MS = 0.1


def bucket(milliseconds: float) -> int:
    """Index of the bucket that a latency falls into."""
    return 0 if milliseconds <= SMALLEST_MS else math.ceil(math.log(milliseconds / SMALLEST_MS) / math.log(GROWTH))


def middle_ms(index: int) -> float:
    """The latency that stands for a bucket: its middle, on the scale of ratios."""
    return float(SMALLEST_MS * GROWTH ** (index - 0.5))


@dataclass(slots=True)
class VariantStatistics:
    """Sums of one version's traffic.

    `answered` counts good answers and `failures` the others by error code; a challenger's failures were answered by
    the champion. `latency` counts answers per bucket (DDSketch, Masson et al. 2019, arXiv:1908.10693). Confidence is
    the probability of the answered class, `classes` counts them. `compared` requests were also put to the champion;
    `agreed` gave the same class (or, without classes, the same tensors; of many rows their share), `differences` sums
    the mean absolute difference of the outputs, `max_difference` is the largest single one, and `pairs` counts
    (champion's class, this one's). `dropped` copies found no room. `labelled` answers got feedback, `correct` of them
    were right; `champion_correct` of those that both answered, `both_labelled`, were right in the champion and
    `both_correct` in this version, `both_right` in both (without it the referee assumes the least favourable).
    """

    answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    latency: Counter[int] = field(default_factory=Counter)
    confident: int = 0
    confidence: float = 0.0
    confidence_squares: float = 0.0
    classes: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    agreed: float = 0
    differences: float = 0.0
    max_difference: float = 0.0
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    dropped: int = 0
    labelled: int = 0
    correct: int = 0
    both_labelled: int = 0
    champion_correct: int = 0
    both_correct: int = 0
    both_right: int = 0

    @property
    def failed(self) -> int:
        """Requests that it could not answer."""
        return self.failures.total()

    @property
    def requests(self) -> int:
        """Requests that were put to it."""
        return self.answered + self.failed

    def quantile_ms(self, share: float) -> float | None:
        """Latency that this share of the answers stayed below; None without answers."""
        wanted = share * self.latency.total()
        seen = 0
        for index in sorted(self.latency):
            seen += self.latency[index]
            if seen >= wanted and seen:
                return middle_ms(index)
        return None

    def slower_than(self, milliseconds: float) -> int:
        """Number of answers that took longer."""
        limit = bucket(milliseconds)
        return sum(count for index, count in self.latency.items() if index > limit)

    def summary(self) -> dict[str, Any]:
        """The sums as JSON, with the means and percentiles that people look at; latency by bucket: from, to, count."""
        latency = [[middle_ms(i) / GROWTH**0.5, middle_ms(i) * GROWTH**0.5, n] for i, n in sorted(self.latency.items())]
        return {
            "requests": self.requests,
            "answered": self.answered,
            "failed": self.failed,
            "failures": dict(self.failures),
            "p50_ms": self.quantile_ms(0.5),
            "p90_ms": self.quantile_ms(0.9),
            "p99_ms": self.quantile_ms(0.99),
            "latency": latency,
            "confidence": self.confidence / self.confident if self.confident else None,
            "classes": dict(sorted(self.classes.items())),
            "compared": self.compared,
            "agreed": self.agreed,
            "mean_difference": self.differences / self.compared if self.compared else None,
            "max_difference": self.max_difference if self.compared else None,
            "pairs": [[mine, its, count] for (mine, its), count in self.pairs.most_common()],
            "dropped": self.dropped,
            "labelled": self.labelled,
            "correct": self.correct,
        }

    def add(self, other: "VariantStatistics") -> "VariantStatistics":
        """Both together."""
        return self._combine(other, 1)

    def since(self, earlier: "VariantStatistics") -> "VariantStatistics":
        """What came after an earlier state of the same sums (`max_difference` stays that of all)."""
        return self._combine(earlier, -1)

    def _combine(self, other: "VariantStatistics", sign: int) -> "VariantStatistics":
        made: dict[str, Any] = {}
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if each.name == "max_difference":
                made[each.name] = max(mine, theirs)
            elif isinstance(mine, Counter):
                keys = mine.keys() | theirs.keys()
                counts = {key: mine[key] + sign * theirs[key] for key in keys}
                made[each.name] = Counter({key: count for key, count in counts.items() if count})
            else:
                made[each.name] = mine + sign * theirs
        return VariantStatistics(**made)
