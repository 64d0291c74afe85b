"""What a Router keeps in memory of a prediction until it is written: references, and a few numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from deployments.agreement import Agreement
from deployments.batching import size_of
from deployments.messages import Answer
from deployments.question import Asked, Images, Served, Variant
from models.errors import TiltyardError
from models.features import ImageFeatures
from models.manifest import Manifest
from models.signature import Tensors
from models.traffic import OK

RECORD_BYTES = 1000
"""What a record takes beside its arrays, about."""


@dataclass(slots=True, eq=False)
class Record:
    """One image, or rows of tensors: of each comes a row of the log. `time` is time.time() when it was answered.

    `image` is an encoded image only where the input itself is kept; of tensors `keeps_input` says so. While a
    comparison is awaited, until that time.monotonic(), it is not written.
    """

    time: float
    request_id: str
    item: int
    rows: int
    variant: Variant
    manifest: Manifest | None
    status: str
    answer: Answer | None
    key_id: str | None
    weight: float
    total_ms: float
    features: ImageFeatures | None
    is_image: bool
    keeps_input: bool
    image: bytes | None
    tensors: Tensors | None
    compared_with: int | None = None
    agreements: Sequence[Agreement] = ()
    awaited_until: float = 0.0

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, about; memory that several have in common counts for each."""
        size = RECORD_BYTES + len(self.image or b"")
        if self.tensors is not None:
            size += size_of(self.tensors)
        if self.answer is not None:
            size += size_of(self.answer.outputs)
        return size


def record(
    asked: Asked,
    item: int,
    served: Served,
    now: float,
    total_ms: float,
    compared_with: int | None = None,
    agreements: Sequence[Agreement] = (),
    features: ImageFeatures | None = None,
) -> Record:
    """Keep what came of one item. Its `features` may be known from another's answer to it."""
    question, entry, outcome = asked.question, asked.entry, served.outcome
    assert entry is not None
    image = question.images[item] if isinstance(question, Images) and entry.keeps_input else None
    keeps_input = entry.keeps_input and served.variant.name != "shadow" and image != b""
    answer = outcome if isinstance(outcome, Answer) else None
    return Record(
        now,
        asked.request_id,
        question.place(item),
        question.rows(item),
        served.variant,
        served.manifest,
        outcome.code if isinstance(outcome, TiltyardError) else OK,
        answer,
        entry.key_id,
        entry.weight,
        total_ms,
        features or (answer.features if answer else None),
        isinstance(question, Images),
        keeps_input,
        image if keeps_input else None,
        None if isinstance(question, Images) else question.inputs,
        compared_with,
        agreements,
    )
