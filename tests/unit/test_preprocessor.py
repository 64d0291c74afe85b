"""A picture that a shadow sees too is decoded once."""

import asyncio
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deployments.messages import Answer, Capacity, Description, ImageRequest, Reply, Requests, Target, Timing
from deployments.preprocessor import MAX_SHARED, Preprocessor
from models import preprocessing
from models.features import ImageFeatures
from models.preprocessing import Preprocessing
from tests.fakes import Near

SIDE = 64


class Echo(Near):
    """A version that answers with the mean of what it got."""

    async def describe(self, model: str, version: int) -> Description:
        raise AssertionError

    async def predict(self, model: str, version: int, requests: Requests) -> Reply:
        means = [np.mean(next(iter(request.inputs.values())), axis=(1, 2, 3)) for request in requests]  # type: ignore[union-attr]
        return Reply([Answer({"y": mean}, Timing()) for mean in means], Capacity("here", 2))


def picture(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((SIDE, SIDE), 50).point(lambda pixel: (pixel + value) % 256).save(buffer, "PNG")
    return buffer.getvalue()


def target(version: int, side: int = 8) -> Target:
    return Target("m", version, "image", Preprocessing(height=side, width=side))


def test_a_shadow_gets_the_pixels_that_the_champion_got(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = preprocessing.picture
    decoded: list[tuple[Any, ...]] = []

    def counted(*arguments: Any) -> Any:
        decoded.append(arguments)
        return decode(*arguments)

    monkeypatch.setattr("deployments.preprocessor.picture", counted)

    async def scenario() -> None:
        preprocessor = Preprocessor(Echo(), 1)
        image = picture(1)

        async def ask(version: int, side: int = 8, background: bool = False, shared: bool = False) -> float:
            request = ImageRequest(image, 10, 10**9, background, shared)
            reply = await preprocessor.predict([request], target(version, side))
            outcome = reply.outcomes[0]
            assert isinstance(outcome, Answer)
            return float(outcome.outputs["y"][0])

        mean = await ask(1, shared=True)
        assert await ask(2, background=True) == mean
        assert len(decoded) == 1
        await ask(2, background=True)  # it was kept for one shadow, once
        assert len(decoded) == 2
        await ask(1, shared=True)
        await ask(2, side=16, background=True)  # other preprocessing, other pixels
        assert len(decoded) == 4

    asyncio.run(scenario())


def test_what_no_shadow_asks_for_is_not_kept_for_ever() -> None:
    async def scenario() -> None:
        preprocessor = Preprocessor(Echo(), 1)
        small = [Image.new("L", (8, 8), value) for value in range(2 * MAX_SHARED)]
        for image in small:
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            await preprocessor.predict([ImageRequest(buffer.getvalue(), 10, 10**9, shared=True)], target(1))
        assert len(preprocessor._shared) == MAX_SHARED

    asyncio.run(scenario())


def test_who_does_not_wait_for_features_leaves_no_call_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancel meets the features while the model computes."""

    class Slow(Echo):
        state = "not asked"

        async def predict(self, model: str, version: int, requests: Requests) -> Reply:
            self.state = "asked"
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.state = "cancelled"
                raise
            raise AssertionError

    async def scenario() -> None:
        slow = Slow()

        async def features(_: object) -> dict[int, ImageFeatures]:
            while slow.state == "not asked":
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.sleep(60)
            return {}

        monkeypatch.setattr("deployments.preprocessor._features", features)
        asked = Preprocessor(slow, 1).predict([ImageRequest(picture(1), 10, 10**9)], target(1))
        asking = asyncio.create_task(asked)
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.sleep(0)
        assert slow.state == "cancelled"

    asyncio.run(scenario())
