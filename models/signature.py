"""Named inputs and outputs of a model, with dtype and shape, and the checking of arrays against them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from models.errors import InvalidTensor

Tensors = Mapping[str, npt.NDArray[Any]]
"""Arrays by name; the first axis of each is the batch."""


def rows_of(tensors: Tensors) -> int:
    """Number of rows of a batch."""
    return len(next(iter(tensors.values())))


class TensorSpec(BaseModel):
    """One input or output: its name, numpy dtype (`string` for text) and shape; None is any size.

    The first dimension is the batch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype as numpy knows it (object for text)."""
        return np.dtype(object if self.dtype == "string" else self.dtype)

    @property
    def row(self) -> str:
        """Shape of one row, for messages: `float32 [3, ?]`."""
        return f"{self.dtype} [{', '.join('?' if d is None else str(d) for d in self.shape[1:])}]"

    def __str__(self) -> str:
        dims = ", ".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.name}: {self.dtype} [{dims}]"

    def check(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the array in this dtype. Raises InvalidTensor naming the input, what was expected and what came."""
        rows = array.shape[1:]
        expected = self.shape[1:]
        if len(rows) != len(expected) or any(e not in (None, r) for e, r in zip(expected, rows, strict=True)):
            raise InvalidTensor(f"input {self.name!r}: expected {self.row} per instance, got shape {list(rows)}")
        return self._cast(array)

    def _cast(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        want = self.numpy_dtype
        if array.dtype == want:
            return array
        if not _castable(array.dtype.kind, want.kind):
            raise InvalidTensor(
                f"input {self.name!r}: expected {self.dtype} values, got {_kind_name(array.dtype.kind)}"
            )
        if want.kind in "iu" and array.size:
            limits = np.iinfo(want)
            if array.min() < limits.min or array.max() > limits.max:
                raise InvalidTensor(
                    f"input {self.name!r}: expected {self.dtype} values between {limits.min} and {limits.max}"
                )
        with np.errstate(over="ignore"):
            cast = array.astype(want)
        if want.kind == "f" and not np.isfinite(cast).all():
            raise InvalidTensor(f"input {self.name!r}: a value is too large for {self.dtype}")
        return cast


class Signature(BaseModel):
    """What a model takes and gives."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def batch_size(self) -> int | None:
        """The batch size the model was exported with, or None if it takes any."""
        sizes = {spec.shape[0] for spec in self.inputs}
        return sizes.pop() if len(sizes) == 1 else None

    def check(self, inputs: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Return the inputs [rows, ...] in the signature's dtypes. Raises InvalidTensor."""
        self.check_names(set(inputs))
        checked = {spec.name: spec.check(inputs[spec.name]) for spec in self.inputs}
        rows = {name: len(array) for name, array in checked.items()}
        if len(set(rows.values())) > 1:
            raise InvalidTensor(f"every input needs the same number of rows, got {rows}")
        if 0 in rows.values():
            raise InvalidTensor("there is no row to answer")
        return checked

    def check_names(self, given: set[str]) -> None:
        """Check the names of the inputs. Raises InvalidTensor."""
        names = {spec.name for spec in self.inputs}
        if unknown := sorted(given - names):
            raise InvalidTensor(f"unknown input {unknown[0]!r}; the model takes {listed(names)}")
        if missing := sorted(names - given):
            raise InvalidTensor(f"input {missing[0]!r} is missing; the model takes {listed(names)}")


def _castable(have: str, want: str) -> bool:
    """Whether numpy kind `have` may become `want` without losing meaning."""
    return want in {"b": "b", "i": "iuf", "u": "iuf", "f": "f", "O": "O"}.get(have, "")


def _kind_name(kind: str) -> str:
    names = {"b": "booleans", "i": "integers", "u": "integers", "f": "decimals", "O": "strings"}
    return names.get(kind, "something else")


def listed(names: Iterable[str]) -> str:
    """Names for a message: `'a', 'b'`."""
    return ", ".join(repr(name) for name in sorted(names))
