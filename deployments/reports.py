"""What all Routers said so far, in sums: of all time, and since a moment."""

import time
from dataclasses import dataclass, field

from deployments.question import Key
from deployments.scores import Disagreement, RouterReport, total
from models.policy import ModelPolicy
from models.variant_statistics import VariantStatistics

SILENT_S = 30.0
"""A Router that has said nothing for so long is gone, or has nothing to say; what it saw still counts."""

MAX_ROUTERS = 256
"""Of Routers that are gone, so many are remembered."""

EXAMPLES = 20


@dataclass(slots=True)
class Mark:
    """A moment, with the sums that each Router had reported by then."""

    at: float
    before: dict[str, dict[Key, VariantStatistics]] = field(default_factory=dict)
    trips: dict[str, dict[Key, int]] = field(default_factory=dict)


class Reports:
    """The last report of every Router. They hold sums since the Router's start, so a lost one loses nothing."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, RouterReport]] = {}

    def take(self, report: RouterReport) -> None:
        """Take a report in, in the place of the Router's last one."""
        self._last.pop(report.router, None)
        self._last[report.router] = time.monotonic(), report
        while len(self._last) > MAX_ROUTERS:
            self._last.pop(next(iter(self._last)))

    @property
    def routers(self) -> int:
        """Number of Routers that reported lately."""
        return len(self._fresh())

    @property
    def began(self) -> float | None:
        """When the first of the Routers started, time.time(): what is summed here came since. None without any."""
        return min((report.started for _, report in self._last.values()), default=None)

    def agreeing(self, model: str, policy: ModelPolicy) -> int:
        """Number of Routers that reported lately and were told this policy."""
        return sum(report.policy.models.get(model) == policy for report in self._fresh())

    def total(self, key: Key) -> VariantStatistics:
        """All that was ever seen of a version."""
        return total(report.statistics[key] for _, report in self._last.values() if key in report.statistics)

    def mark(self, arrived: Key | None = None) -> Mark:
        """Now; of a version that has just arrived, when it did: all that was seen of it counts."""
        made = Mark(time.time())
        for name, (_, report) in self._last.items():
            made.before[name] = {key: sums for key, sums in report.statistics.items() if key != arrived}
            made.trips[name] = {key: trips for key, trips in report.trips.items() if key != arrived}
        return made

    def since(self, mark: Mark, key: Key) -> VariantStatistics:
        """What was seen of a version since a moment."""
        return total(self._since(mark, report, key) for _, report in self._last.values())

    def _since(self, mark: Mark, report: RouterReport, key: Key) -> VariantStatistics:
        now = report.statistics.get(key, VariantStatistics())
        if report.router not in mark.before:  # not heard of by then; what an older one saw before counts for nothing
            mark.before[report.router] = dict(report.statistics) if report.started < mark.at else {}
            mark.trips[report.router] = dict(report.trips) if report.started < mark.at else {}
        before = mark.before[report.router].get(key, VariantStatistics())
        if now.requests + now.compared < before.requests + before.compared:  # it was retired, and its sums began anew
            before = mark.before[report.router][key] = VariantStatistics()
        return now.since(before)

    def trips_since(self, mark: Mark, key: Key) -> int:
        """How often a version's breaker opened in any one Router since a moment."""
        return max(
            (report.trips.get(key, 0) - mark.trips.get(report.router, {}).get(key, 0) for report in self._fresh()),
            default=0,
        )

    def breaker(self, key: Key) -> str:
        """The worst state of a version's breakers."""
        states = {report.breakers.get(key, "closed") for report in self._fresh()}
        return next((state for state in ("open", "half open") if state in states), "closed")

    def disagreements(self, key: Key) -> list[Disagreement]:
        """Examples of them."""
        return [each for report in self._fresh() for each in report.disagreements.get(key, ())][-EXAMPLES:]

    def _fresh(self) -> list[RouterReport]:
        now = time.monotonic()
        return [report for at, report in self._last.values() if now - at < SILENT_S]
