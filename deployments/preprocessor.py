"""The preprocessing actor: encoded images in, uint8 tensors on to the model, outcomes back."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from deployments.answer import Answer, Outcome
from deployments.batching import split
from models.errors import ModelFailed, TiltyardError
from models.preprocessing import Preprocessing, preprocess
from models.signature import Tensors

Pixels = npt.NDArray[np.uint8]


class ModelServers(Protocol):
    """Whatever runs a version on tensors."""

    async def predict(self, model: str, version: int, inputs: Tensors) -> Answer:
        """Run rows [rows, ...] through a version. Raises a TiltyardError."""


class Preprocessor:
    """Decodes images on threads of its own and hands the tensor to the version's ModelServer itself.

    So pixels travel once: what goes back to the Router is the model's answer.
    """

    def __init__(self, model_servers: ModelServers, max_pixels: int, threads: int) -> None:
        self._model_servers = model_servers
        self._max_pixels = max_pixels
        self._executor = ThreadPoolExecutor(threads, "decode")

    async def describe(self) -> str:
        """Say that it is there."""
        return "preprocessor"

    async def predict(
        self, images: Sequence[bytes], preprocessing: Preprocessing, input_name: str, model: str, version: int
    ) -> list[Outcome]:
        """Outcomes in the order of the images. A bad image fails alone; a model that fails, fails them all."""
        started = time.perf_counter()
        decoded = await self._decode(images, preprocessing)
        preprocess_ms = (time.perf_counter() - started) * 1000
        pixels = [pixel for pixel in decoded if not isinstance(pixel, TiltyardError)]
        answered = iter(await self._infer(pixels, input_name, model, version, preprocess_ms))
        return [pixel if isinstance(pixel, TiltyardError) else next(answered) for pixel in decoded]

    async def _decode(self, images: Sequence[bytes], preprocessing: Preprocessing) -> list[Pixels | TiltyardError]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *(loop.run_in_executor(self._executor, self._decode_one, image, preprocessing) for image in images)
        )

    def _decode_one(self, image: bytes, preprocessing: Preprocessing) -> Pixels | TiltyardError:
        try:
            return preprocess(image, preprocessing, self._max_pixels)
        except TiltyardError as error:
            return error

    async def _infer(
        self, pixels: list[Pixels], input_name: str, model: str, version: int, preprocess_ms: float
    ) -> Sequence[Outcome]:
        if not pixels:
            return []
        try:
            answer = await self._model_servers.predict(model, version, {input_name: np.stack(pixels)})
        except ModelFailed as error:
            if len(pixels) == 1:
                return [error]
            alone = (self._infer([pixel], input_name, model, version, preprocess_ms) for pixel in pixels)
            return [outcome for outcomes in await asyncio.gather(*alone) for outcome in outcomes]
        except TiltyardError as error:
            return [error] * len(pixels)
        timing = replace(answer.timing, preprocess_ms=preprocess_ms)
        return [Answer(outputs, timing) for outputs in split(answer.outputs, [1] * len(pixels))]
