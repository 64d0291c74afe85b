"""What publishing measures of an artifact: time, accuracy, and how far it is from another one."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.tolerance import Tolerance
from models.backends import Backend
from models.golden import largest_difference
from models.manifest import OutputKind
from models.signature import Tensors, rows_of

BATCH = 32
LATENCY_BUDGET_S = 1.0
LATENCY_RUNS = 100


@dataclass(frozen=True, slots=True)
class Validation:
    """Labelled inputs: rows by input name, and the index of the right class of each row.

    `files` are the encoded images of the rows, in their order, where there are any.
    """

    inputs: Tensors
    classes: npt.NDArray[np.int64]
    files: Sequence[bytes] = ()

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One way of answering held against another on the same rows.

    `agreement` is the share of rows with the same likeliest class (the same values, for outputs that are not floats);
    `relative_diff` the largest difference as a share of the output's range, `max_abs_diff` as it is.
    """

    rows: int
    agreement: float | None
    relative_diff: float | None
    max_abs_diff: float
    accuracy_loss: float | None = None

    def outside(self, tolerance: Tolerance) -> str | None:
        """Why it is outside of the tolerance, with the numbers; None where it is inside."""
        if self.accuracy_loss is not None:
            if self.accuracy_loss > tolerance.max_accuracy_loss + 1e-9:
                allowed = f"{100 * tolerance.max_accuracy_loss:g} are allowed"
                return f"it loses {100 * self.accuracy_loss:.2f} points of accuracy; {allowed}"
            return None
        if self.agreement is not None and self.agreement < tolerance.min_agreement:
            return f"it agrees on {self.agreement:.1%} of {self.rows} rows; {tolerance.min_agreement:.1%} are asked for"
        if self.relative_diff is not None and not self.relative_diff <= tolerance.max_difference:
            share = f"{self.relative_diff:.1%} of the output's range on {self.rows} rows"
            return f"it differs by up to {share}; {tolerance.max_difference:.1%} are allowed"
        return None


def compare(candidate: Tensors, reference: Tensors, output: OutputKind) -> Comparison:
    """Compare the outputs of the same rows."""
    rows = rows_of(reference)
    largest = max(largest_difference(array, candidate[name]) for name, array in reference.items())
    if output != "tensors":
        ((name, wanted),) = reference.items()
        same = wanted.argmax(axis=1) == candidate[name].argmax(axis=1)
        return Comparison(rows, float(same.mean()), None, largest)
    floats = [name for name, array in reference.items() if array.dtype.kind == "f"]
    others = [name for name in reference if name not in floats]
    agreement = min((_same_rows(candidate[name], reference[name]) for name in others), default=None)
    relative = max((_relative(candidate[name], reference[name]) for name in floats), default=None)
    return Comparison(rows, agreement, relative, largest)


def _same_rows(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> float:
    same = (one == other).reshape(len(one), -1).all(axis=1)
    return float(same.mean())


def _relative(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> float:
    spread = float(np.ptp(np.asarray(other, np.float64))) if other.size else 0.0
    difference = largest_difference(one, other)
    return difference / spread if spread else (0.0 if difference == 0 else float("inf"))


def run_rows(backend: Backend, inputs: Tensors) -> dict[str, npt.NDArray[np.generic]]:
    """Run any number of rows, batch by batch; what does not fill the last batch of a fixed size is left out."""
    outputs = [dict(backend.run(batch)) for batch in batches(inputs, backend.signature.batch_size)]
    return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}


def batches(inputs: Tensors, fixed: int | None) -> Iterator[Tensors]:
    """Cut into batches of BATCH rows, or of the fixed size; what does not fill the last of those is left out."""
    count, size = rows_of(inputs), fixed or BATCH
    for start in range(0, count - (count % fixed if fixed else 0), size):
        yield {name: array[start : start + size] for name, array in inputs.items()}


def accuracy(backend: Backend, validation: Validation) -> float:
    """Share of validation rows whose likeliest class is the right one."""
    return share_right(run_rows(backend, validation.inputs), validation.classes)


def share_right(outputs: Tensors, classes: npt.NDArray[np.int64]) -> float:
    """Share of rows whose likeliest class is the right one; there may be more classes than rows."""
    scores = next(iter(outputs.values()))
    return float((scores.argmax(axis=1) == classes[: len(scores)]).mean())


def latency_ms(backend: Backend, inputs: Tensors) -> float:
    """Median time of one row, after a warm-up; at most a second is spent on it.

    On one thread, unless TensorFlow has run in this process before, as it has after training.
    """
    return latencies_ms([backend], inputs)[0]


def latencies_ms(backends: Sequence[Backend], inputs: Tensors) -> list[float]:
    """The same for several that take turns, so that whatever else the machine does slows all of them."""
    rows = [{name: a[: backend.signature.batch_size or 1] for name, a in inputs.items()} for backend in backends]
    for backend, row in zip(backends, rows, strict=True):
        backend.prepare((rows_of(row),))
        for _ in range(3):
            backend.run(row)
    times: list[list[float]] = []
    stop = time.perf_counter() + LATENCY_BUDGET_S * len(backends)
    while len(times) < LATENCY_RUNS and (not times or time.perf_counter() < stop):
        times.append([_run_ms(backend, row) for backend, row in zip(backends, rows, strict=True)])
    return [float(median) for median in np.median(times, axis=0)]


def _run_ms(backend: Backend, row: Tensors) -> float:
    started = time.perf_counter()
    backend.run(row)
    return (time.perf_counter() - started) * 1000
