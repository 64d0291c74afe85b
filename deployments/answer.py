"""What travels back from a replica."""

from dataclasses import dataclass

from models.errors import TiltyardError
from models.signature import Tensors


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds a request spent decoding, waiting for its batch, and in the model."""

    preprocess_ms: float = 0.0
    queue_ms: float = 0.0
    compute_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's outputs by name, [rows, ...] each."""

    outputs: Tensors
    timing: Timing


Outcome = Answer | TiltyardError
"""One image's answer (of one row), or why there is none."""
