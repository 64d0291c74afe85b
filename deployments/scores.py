"""What a Router has seen of each variant, for the referee: sums, examples, and answers that feedback may come for."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from deployments.agreement import Agreement, Said
from deployments.question import Key
from models.errors import TiltyardError
from models.policy import RoutingPolicy
from models.variant_statistics import VariantStatistics, bucket

EXAMPLES = 20
"""Disagreements that are kept of each version, the newest."""

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

    `trips` tells how often in a row a version's breaker opened. `policy` is what the Router was told
    at `configured` (time.time()).
    """

    router: str
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

    def note_said(self, key: Key, request_id: str | None, rows: Iterable[Said]) -> None:
        """What the rows of an answer say. With a request id, of one row, feedback may come for it."""
        statistics = self._of(key).statistics
        for row in rows:
            if row.label is None or row.confidence is None:
                continue
            statistics.classes[row.label] += 1
            statistics.confident += 1
            statistics.confidence += row.confidence
            statistics.confidence_squares += row.confidence**2
            if request_id is not None:
                self._predictions.append(Prediction(*key, request_id, row.label))

    def note_agreement(self, key: Key, request_id: str, rows: Iterable[Agreement]) -> None:
        """The champion was asked too, or this version was beside the champion."""
        score = self._of(key)
        statistics = score.statistics
        for row in rows:
            statistics.compared += 1
            statistics.agreed += row.agrees
            statistics.differences += row.mean_difference
            statistics.max_difference = max(statistics.max_difference, row.max_difference)
            mine, its = row.champion.label or "", row.other.label or ""
            if row.champion.label is not None:
                statistics.pairs[mine, its] += 1
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


def total(statistics: Iterable[VariantStatistics]) -> VariantStatistics:
    """All together."""
    sums = VariantStatistics()
    for each in statistics:
        sums = sums.add(each)
    return sums
