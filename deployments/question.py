"""A request as the variants see it: what it asks, of whom, until when."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from deployments.lane import Lane
from deployments.messages import Outcome
from models import policy
from models.errors import UNEXPECTED, DeadlineExceeded, TiltyardError
from models.manifest import Manifest
from models.signature import Tensors, rows_of

logger = logging.getLogger("ray.serve")

Key = tuple[str, int]
"""A model and its version."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A version in the part it plays; `by_number` where the client insisted on it."""

    model: str
    version: int
    name: policy.Variant
    by_number: bool = False

    @property
    def key(self) -> Key:
        """What it is, whatever part it plays."""
        return self.model, self.version


@dataclass(frozen=True, slots=True)
class Served:
    """What came of one item of a request, and who it came from; `manifest` says what that is where it answered."""

    variant: Variant
    outcome: Outcome
    manifest: Manifest | None = None


class Question(Protocol):
    """Items that are answered each for itself."""

    def __len__(self) -> int:
        """Number of items."""

    async def ask(
        self, lane: Lane, items: Sequence[int], deadline: float, background: bool = False, shared: bool = False
    ) -> list[Outcome]:
        """Outcomes of some of the items. Raises a TiltyardError where none can be answered."""

    def rows(self, item: int) -> int:
        """Rows that an item's answer has."""


@dataclass(frozen=True, slots=True)
class Images:
    """Encoded images, each an item; the traffic log may want their features beside the answers.

    `places` are theirs in the request, where not all of it is here.
    """

    images: Sequence[bytes]
    wants_features: bool = False
    places: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.images)

    async def ask(
        self, lane: Lane, items: Sequence[int], deadline: float, background: bool = False, shared: bool = False
    ) -> list[Outcome]:
        """Outcomes of some of the images. Raises a TiltyardError where none can be answered."""
        wants_features = self.wants_features and not background
        images = [self.images[item] for item in items]
        return await lane.predict_images(images, deadline, background, shared, wants_features)

    def rows(self, item: int) -> int:
        """One."""
        return 1

    def place(self, item: int) -> int:
        """Which image of the request an item is."""
        return self.places[item] if self.places else item


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows [rows, ...] of tensors, one item in all."""

    inputs: Tensors

    def __len__(self) -> int:
        return 1

    async def ask(
        self, lane: Lane, items: Sequence[int], deadline: float, background: bool = False, shared: bool = False
    ) -> list[Outcome]:
        """The answer. Raises a TiltyardError."""
        return [await lane.predict(self.inputs, deadline, background)]

    def rows(self, item: int) -> int:
        """All of them."""
        return rows_of(self.inputs)

    def place(self, item: int) -> int:
        """Of the first row."""
        return 0


@dataclass(frozen=True, slots=True)
class Entry:
    """That a request is recorded in the traffic log: what it stands for, when it `began` (monotonic)."""

    weight: float
    keeps_input: bool
    began: float
    key_id: str | None

    def elapsed_ms(self) -> float:
        """How long it took up to now."""
        return max(0.0, time.monotonic() - self.began) * 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its model's policy, the variant that was drawn, and until when (time.monotonic()) it is answered.

    Without an `entry` it is not recorded.
    """

    policy: policy.ModelPolicy
    variant: Variant
    question: Images | Rows
    deadline: float
    request_id: str
    entry: Entry | None = None

    @property
    def champion(self) -> Variant:
        """Who stands in."""
        return champion_of(self.variant.model, self.policy)


def champion_of(model: str, policy: policy.ModelPolicy) -> Variant:
    """Who answers by default."""
    return Variant(model, policy.champion, "champion")


async def in_time(asking: Coroutine[Any, Any, list[Outcome]], limit_s: float, count: int) -> list[Outcome]:
    """Outcomes; whatever goes wrong, a timeout too, is the outcome of every item."""
    error: TiltyardError
    try:
        async with asyncio.timeout(limit_s):
            return await asking
    except TimeoutError:
        error = DeadlineExceeded(f"no answer within {limit_s:.3g} s")
    except TiltyardError as raised:
        error = raised
    except Exception:
        logger.exception("a variant could not be asked")
        error = TiltyardError(UNEXPECTED)
    return [error] * count
