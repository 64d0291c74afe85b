"""What travels between deployments.

A call carries many requests, because a call between deployments costs several times what the whole front door does;
its reply carries the outcome of each, and what the replica that answered has room for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from models.errors import TiltyardError
from models.features import ImageFeatures
from models.manifest import Manifest
from models.preprocessing import Preprocessing
from models.signature import Tensors, rows_of

MAX_CALL_BYTES = 64 * 1024 * 1024
"""What is sent together; calls between deployments are messages of limited size."""

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
"""One request alone may be larger than what is sent together."""

TOO_LARGE = "the tensors of this request are too large to be passed on"


@dataclass(frozen=True, slots=True)
class TensorRequest:
    """Rows [rows, ...] by input name, and the seconds left to answer them when this was sent.

    Nobody waits for those in the `background`: they are computed with what the others leave of the machine.
    """

    inputs: Tensors
    timeout_s: float
    background: bool = False

    @property
    def rows(self) -> int:
        """Rows that it adds to a batch."""
        return rows_of(self.inputs)


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One encoded image, the most pixels it may have, and the seconds left to answer it when this was sent.

    `background` as for tensors. One that is `shared` will come again for a shadow. `wants_features`: of the picture,
    beside the answer (models/features.py).
    """

    image: bytes
    timeout_s: float
    max_pixels: int
    background: bool = False
    shared: bool = False
    wants_features: bool = False

    @property
    def rows(self) -> int:
        """Rows that it adds to a batch."""
        return 1


Requests = Sequence[TensorRequest | ImageRequest]
"""What one call carries."""


@dataclass(frozen=True, slots=True)
class Target:
    """The version that images are for, and how they become its only input."""

    model: str
    version: int
    input_name: str
    preprocessing: Preprocessing


@dataclass(slots=True)
class Timing:
    """Milliseconds: waiting in the Router, decoding, waiting in the replica for its batch or others in it, the model.

    Whoever knows a phase fills it in on the way back.
    """

    queue_ms: float = 0.0
    preprocess_ms: float = 0.0
    batch_ms: float = 0.0
    compute_ms: float = 0.0

    @classmethod
    def longest(cls, timings: Sequence["Timing"]) -> "Timing":
        """Phase by phase, of pieces that were answered side by side."""
        return cls(*(max(getattr(timing, phase.name) for timing in timings) for phase in fields(cls)))


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's outputs by name, [rows, ...] each; and an embedding [rows, dimensions] where the artifact has one.

    `features` of the image come with it where they were asked for.
    """

    outputs: Tensors
    timing: Timing
    embedding: npt.NDArray[np.float16] | None = None
    features: ImageFeatures | None = None


Outcome = Answer | TiltyardError
"""What came of one request."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one replica has room for: calls at a time, rows in a batch, rows that may wait for it in each Router.

    `decodes`: it takes encoded images too.
    """

    replica: str
    calls: int
    max_rows: int = 1
    max_waiting_rows: int = 0
    decodes: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcomes of a call in the order of its requests. `preprocessor` is set where images went through one."""

    outcomes: list[Outcome]
    model_server: Capacity | None
    preprocessor: Capacity | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What a ModelServer runs, and what it has room for."""

    manifest: Manifest
    capacity: Capacity
