"""Rows of traffic, or of a reference, read column by column."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.traffic import IMAGE, INPUT, OK, is_feature

Numbers = npt.NDArray[np.float64]
Texts = npt.NDArray[np.object_]

OUTPUTS: Final = ("label", "confidence", "margin", "entropy")

LEAST_VALUES = 30
"""Known values of a column that each side must have; a few tensors among images tell nothing of all traffic."""

MOST_SINGLETONS = 0.25
"""Chance of a value that the reference has not, above which a categorical column is of names or texts: its mix tells
nothing, and a new value is no news."""

MAX_CATEGORIES = 100
"""Of one column; the rarer ones count as one."""

POOLED = "(other values)"


@dataclass(frozen=True, slots=True)
class Frame:
    """A table whose columns are those of models/traffic.py, as far as it has them."""

    table: pa.Table

    @property
    def rows(self) -> int:
        """How many."""
        return int(self.table.num_rows)

    def has(self, name: str) -> bool:
        """Whether there is such a column with anything in it."""
        return name in self.table.column_names and self.table[name].null_count < self.rows

    def numbers(self, name: str) -> Numbers:
        """Float64 [rows], NaN where null."""
        return np.asarray(pc.cast(self.table[name], pa.float64()).to_numpy(), dtype=np.float64)

    def texts(self, name: str) -> Texts:
        """Strings [rows], None where null."""
        return np.asarray(pc.cast(self.table[name], pa.string()).to_numpy(), dtype=object)

    def is_text(self, name: str) -> bool:
        """Whether a column is categorical."""
        kind = self.table.schema.field(name).type
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))

    def vectors(self, name: str) -> Numbers | None:
        """Float64 [rows, length] of `probabilities` or `embedding`; None unless all rows have one of equal length."""
        if not self.has(name) or self.table[name].null_count:
            return None
        column = self.table[name].combine_chunks()
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            flat = np.frombuffer(b"".join(column.to_pylist()), dtype="<f2")
        else:
            flat = pc.list_flatten(column).to_numpy(zero_copy_only=False)
        lengths = np.unique(pc.binary_length(column) if flat.dtype == np.float16 else pc.list_value_length(column))
        if len(lengths) != 1 or not flat.size:
            return None
        return np.asarray(flat, dtype=np.float64).reshape(self.rows, -1)

    def microseconds(self) -> npt.NDArray[np.int64]:
        """Time of each row since 1970, UTC; zeros where it is not known."""
        if not self.has("time"):
            return np.zeros(self.rows, dtype=np.int64)
        return np.asarray(pc.cast(self.table["time"], pa.int64()).to_numpy(), dtype=np.int64)

    def take(self, rows: npt.NDArray[Any]) -> "Frame":
        """Some rows, by a mask or by their numbers."""
        return Frame(self.table.filter(pa.array(rows)) if rows.dtype == bool else self.table.take(pa.array(rows)))

    def answered(self) -> "Frame":
        """Rows whose request was answered."""
        return Frame(self.table.filter(pc.equal(self.table["status"], OK))) if self.has("status") else self

    def features(self) -> list[str]:
        """Names of what is known of the inputs."""
        return [name for name in self.table.column_names if is_feature(name)]

    def of_kind(self, name: str) -> npt.NDArray[np.bool_]:
        """Rows that ought to have a column: those sent as images for `image_*`, as tensors for `input_*`.

        One of which nothing at all is known ought to.
        """
        own = next((kind for kind in (IMAGE, INPUT) if name.startswith(kind)), None)
        if own is None:
            return np.ones(self.rows, dtype=bool)
        other = INPUT if own == IMAGE else IMAGE
        return self._has_any(own) | ~self._has_any(other)

    def _has_any(self, kind: str) -> npt.NDArray[np.bool_]:
        known = np.zeros(self.rows, dtype=bool)
        for name in self.features():
            if name.startswith(kind):
                known |= np.asarray(self.table[name].is_valid().to_numpy(), dtype=bool)
        return known


@dataclass(frozen=True, slots=True)
class Column:
    """The usable values of one column on both sides: finite floats, or strings.

    `rows` are those of the window that `current` comes from; `kept` are the categories that are told apart, where the
    others are POOLED.
    """

    name: str
    is_numeric: bool
    reference: npt.NDArray[Any]
    current: npt.NDArray[Any]
    rows: npt.NDArray[np.int64]
    kept: frozenset[str] | None = None

    def of(self, frame: Frame) -> npt.NDArray[Any]:
        """The column of a frame, with NaN or None where it is not known."""
        return frame.numbers(self.name) if self.is_numeric else _pooled(frame.texts(self.name), self.kept)


def comparable(reference: Frame, current: Frame) -> list[Column]:
    """Columns of inputs and outputs that both have; of several with the very same values, the first."""
    names = [name for name in (*current.features(), *OUTPUTS) if reference.has(name) and current.has(name)]
    columns = [column for name in names for column in _column(name, reference, current)]
    return list(_without_doubles(columns))


def _column(name: str, reference: Frame, current: Frame) -> Iterator[Column]:
    if reference.is_text(name) != current.is_text(name):
        return
    before: npt.NDArray[Any]
    now: npt.NDArray[Any]
    kept: frozenset[str] | None = None
    if reference.is_text(name):
        before, now = reference.texts(name), current.texts(name)
        if chance_of_unseen(before) > MOST_SINGLETONS:
            return
        kept = _most_frequent(before, now)
        before, now = _pooled(before, kept), _pooled(now, kept)
        known_before, known = before != None, now != None  # noqa: E711 (element by element)
    else:
        before, now = reference.numbers(name), current.numbers(name)
        known_before, known = np.isfinite(before), np.isfinite(now)
    if min(known_before.sum(), known.sum()) >= LEAST_VALUES:
        is_numeric = not reference.is_text(name)
        yield Column(name, is_numeric, before[known_before], now[known], np.flatnonzero(known), kept)


def chance_of_unseen(values: Texts) -> float:
    """That the next value is none of these: the share of those that come once (Good 1953, after Turing)."""
    counts = Counter(each for each in values.tolist() if each is not None)
    return sum(count == 1 for count in counts.values()) / max(1, counts.total())


def _most_frequent(before: Texts, now: Texts) -> frozenset[str] | None:
    """Categories to be told apart, the reference's most frequent ones; None where all can be."""
    counts = Counter(each for each in before.tolist() if each is not None)
    if len(counts.keys() | {each for each in now.tolist() if each is not None}) <= MAX_CATEGORIES:
        return None
    return frozenset(name for name, _ in counts.most_common(MAX_CATEGORIES - 1))


def _pooled(values: Texts, kept: frozenset[str] | None) -> Texts:
    if kept is None:
        return values
    return np.array([each if each is None or each in kept else POOLED for each in values.tolist()], dtype=object)


def _without_doubles(columns: list[Column]) -> Iterator[Column]:
    """Grey images have one brightness for each colour."""
    kept: list[Column] = []
    for column in columns:
        if not any(_is_double(column, other) for other in kept):
            kept.append(column)
            yield column


def _is_double(one: Column, other: Column) -> bool:
    if not (one.is_numeric and other.is_numeric) or len(one.current) != len(other.current):
        return False
    return len(one.reference) == len(other.reference) and all(
        np.allclose(mine, its, rtol=0, atol=1e-5) for mine, its in _pairs(one, other)
    )


def _pairs(one: Column, other: Column) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    yield one.reference, other.reference
    yield one.current, other.current
