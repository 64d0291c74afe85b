"""What a Router has seen of each variant, for the referee: sums, examples, and answers that feedback may come for."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from deployments.agreement import Agreement, Said
from deployments.question import Key
from models.errors import TiltyardError
from models.policy import RoutingPolicy
from models.variant_statistics import VariantStatistics, bucket

EXAMPLES = 20
"""Disagreements that are kept of each version, the newest."""

MAX_KINDS = 1000
"""Classes, or pairs of them, that are counted each; the rest are together."""

OTHERS = "others"

T = TypeVar("T")

MAX_UNREPORTED = 20_000
"""Answers that are kept for the referee while it is away; older ones get no feedback."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One request that the champion and another version answered differently."""

    request_id: str
    champion: str
    version: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """The class that a version gave, or would have given, one request."""

    model: str
    version: int
    request_id: str
    label: str


@dataclass(frozen=True, slots=True)
class RouterReport:
    """All that one Router has to tell the referee. `statistics` count from the Router's start.

    It began at `started` and was told the `policy` at `configured` (both time.time()). `trips` tells how often in a row
    a version's breaker opened.
    """

    router: str
    started: float
    configured: float
    policy: RoutingPolicy
    statistics: Mapping[Key, VariantStatistics]
    disagreements: Mapping[Key, tuple[Disagreement, ...]]
    breakers: Mapping[Key, str]
    trips: Mapping[Key, int]
    predictions: tuple[Prediction, ...]


@dataclass(slots=True)
class Score:
    """What one version did."""

    statistics: VariantStatistics = field(default_factory=VariantStatistics)
    disagreements: deque[Disagreement] = field(default_factory=lambda: deque(maxlen=EXAMPLES))


class Scores:
    """Sums of every version that this Router asked."""

    def __init__(self) -> None:
        self._scores: dict[Key, Score] = {}
        self._predictions: deque[Prediction] = deque(maxlen=MAX_UNREPORTED)

    def note_latency(self, key: Key, milliseconds: float) -> None:
        """A good answer came after so long."""
        statistics = self._of(key).statistics
        statistics.answered += 1
        statistics.latency[bucket(milliseconds)] += 1

    def note_failure(self, key: Key, error: TiltyardError) -> None:
        """No good answer came."""
        self._of(key).statistics.failures[error.code] += 1

    def note_said(self, key: Key, request_id: str, rows: Sequence[Said]) -> None:
        """What the rows of an answer say. Feedback may come for a request of one row."""
        statistics = self._of(key).statistics
        known = [(row.label, row.confidence) for row in rows if row.label is not None and row.confidence is not None]
        if not known:
            return
        for label, _ in known:
            _count(statistics.classes, label, OTHERS)
        confidence = sum(each for _, each in known) / len(known)
        statistics.confident += 1
        statistics.confidence += confidence
        statistics.confidence_squares += confidence**2
        if len(rows) == 1:
            self._predictions.append(Prediction(*key, request_id, known[0][0]))

    def note_agreement(self, key: Key, request_id: str, rows: Sequence[Agreement]) -> None:
        """The champion was asked too, or this version was beside the champion. One request, whatever its rows."""
        if not rows:
            return
        score = self._of(key)
        statistics = score.statistics
        statistics.compared += 1
        statistics.agreed += sum(row.agrees for row in rows) / len(rows)
        statistics.differences += sum(row.mean_difference for row in rows) / len(rows)
        for row in rows:
            statistics.max_difference = max(statistics.max_difference, row.max_difference)
            mine, its = row.champion.label or "", row.other.label or ""
            if row.champion.label is not None:
                _count(statistics.pairs, (mine, its), (OTHERS, OTHERS))
            if not row.agrees:
                score.disagreements.append(Disagreement(request_id, mine, its))

    def note_dropped(self, key: Key) -> None:
        """There was no room for a copy."""
        self._of(key).statistics.dropped += 1

    def statistics(self) -> dict[Key, VariantStatistics]:
        """Copies of all sums."""
        return {key: score.statistics.add(VariantStatistics()) for key, score in self._scores.items()}

    def disagreements(self) -> dict[Key, tuple[Disagreement, ...]]:
        """The newest examples."""
        return {key: tuple(score.disagreements) for key, score in self._scores.items()}

    def take_predictions(self) -> tuple[Prediction, ...]:
        """Answers since the last time."""
        taken = tuple(self._predictions)
        self._predictions.clear()
        return taken

    def give_back(self, predictions: tuple[Prediction, ...]) -> None:
        """The referee could not be told."""
        room = MAX_UNREPORTED - len(self._predictions)
        self._predictions.extendleft(reversed(predictions[-room:] if room else ()))

    def forget(self, live: set[Key]) -> None:
        """Drop versions that are gone."""
        self._scores = {key: score for key, score in self._scores.items() if key in live}

    def _of(self, key: Key) -> Score:
        if key not in self._scores:
            self._scores[key] = Score()
        return self._scores[key]


def _count(counter: Counter[T], key: T, otherwise: T) -> None:
    """Count, under `otherwise` what is new where there are many already: a report goes out twice a second."""
    counter[key if key in counter or len(counter) < MAX_KINDS else otherwise] += 1


def total(statistics: Iterable[VariantStatistics]) -> VariantStatistics:
    """All together."""
    sums = VariantStatistics()
    for each in statistics:
        sums = sums.add(each)
    return sums
