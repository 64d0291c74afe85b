"""Which class a version gave where the champion gave another."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from jobs.comparison import Statistics

MAX_CLASSES = 10
OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Matrix:
    """Counts by (champion's class, this version's class); rows and columns are the same classes.

    Where there are more than `MAX_CLASSES`, those that are disagreed on most are shown and the rest are one. The
    diagonal is unknown (None) where only the disagreements are counted by class.
    """

    classes: tuple[str, ...]
    counts: dict[tuple[str, str], int]
    has_diagonal: bool

    def count(self, champion: str, version: str) -> int | None:
        """How often; None where it is not known."""
        if champion == version and not self.has_diagonal:
            return None
        return self.counts.get((champion, version), 0)

    @property
    def largest(self) -> tuple[int, int]:
        """The largest count on the diagonal and beside it, at least 1: what the colours are relative to."""
        on = [count for (a, b), count in self.counts.items() if a == b]
        beside = [count for (a, b), count in self.counts.items() if a != b]
        return max(on, default=1), max(beside, default=1)


def agreement_matrix(numbers: Statistics) -> Matrix | None:
    """The matrix of a version; None where nothing is counted by class."""
    return matrix(numbers.pairs)


def matrix(pairs: Iterable[tuple[str, str, int]]) -> Matrix | None:
    """The matrix of (row's class, column's class, count); None where there is none."""
    counts = Counter[tuple[str, str]]()
    for row, column, count in pairs:
        counts[row, column] += count
    if not counts:
        return None
    shown = _most_disagreed(counts)
    merged = Counter[tuple[str, str]]()
    for (champion, version), count in counts.items():
        merged[champion if champion in shown else OTHERS, version if version in shown else OTHERS] += count
    names = {name for pair in merged for name in pair}
    classes = sorted(names - {OTHERS} | (names & shown), key=natural_order)
    if OTHERS in names - shown:
        classes.append(OTHERS)
    return Matrix(tuple(classes), dict(merged), any(a == b for a, b in counts))


def _most_disagreed(counts: Counter[tuple[str, str]]) -> set[str]:
    classes = {name for pair in counts for name in pair}
    if len(classes) <= MAX_CLASSES:
        return classes
    blame = Counter[str]()
    for (champion, version), count in counts.items():
        for name in (champion, version):
            blame[name] += count if champion != version else 0
    return set(sorted(classes, key=lambda name: (-blame[name], natural_order(name)))[:MAX_CLASSES])


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Sorts `9` before `10`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.findall(r"\d+|\D+", name)]
