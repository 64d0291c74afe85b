"""The whole HTTP surface in this process: the real Router, Preprocessor and models, without Ray."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from deployments.api import create_api
from deployments.feedback import Noted, Truth
from deployments.inference import Call, Inference
from deployments.messages import Capacity, Description, Reply, Requests
from deployments.preprocessor import Preprocessor
from deployments.referee import Directive, Referee
from deployments.router import Router
from deployments.scores import RouterReport
from deployments.settings import GatewaySettings
from jobs import digits
from models.errors import ModelUnavailable
from models.policy import RoutingPolicy
from models.preprocessing import Preprocessing
from models.store import Store
from models.version import LoadedVersion
from tests.fakes import Near
from tests.tiny import affine, brightness, floats, identity, lookup, not_a_number, put, two_inputs

POLICY = RoutingPolicy.model_validate(
    {
        "default_model": "light",
        "models": {
            "light": {"champion": 1, "challengers": {2: 0.0}},
            "affine": {"champion": 1},
            "lookup": {"champion": 1},
            "pair": {"champion": 1},
            "broken": {"champion": 1},
            "pixels": {"champion": 1},
            "digit_pixels": {"champion": 1},
        },
    }
)
CAPACITY = Capacity("here", calls=2, max_rows=32, max_waiting_rows=256)
IMAGE = np.zeros((1, 8, 16, 3), np.uint8)


class LocalModelServers(Near):
    """Live versions in this process."""

    def __init__(self, versions: Sequence[LoadedVersion]) -> None:
        self._inferences: dict[tuple[str, int], Inference] = {}
        self.capacity = CAPACITY
        self.versions = {(v.manifest.model, v.manifest.version): v for v in versions}

    async def predict(self, model: str, version: int, requests: Requests) -> Reply:
        loaded = self._find(model, version)
        if (model, version) not in self._inferences:
            self._inferences[model, version] = Inference(model, loaded.backend, loaded.manifest.preprocessing)
        return Reply(await self._inferences[model, version].predict(Call(requests)), self.capacity)

    async def describe(self, model: str, version: int) -> Description:
        return Description(self._find(model, version).manifest, self.capacity)

    def _find(self, model: str, version: int) -> LoadedVersion:
        if (model, version) not in self.versions:
            raise ModelUnavailable(f"{model} version {version} is not running")
        return self.versions[model, version]


class LocalReferee:
    """The real referee in this process."""

    def __init__(self, store: Store) -> None:
        self.referee = Referee(store)

    async def report(self, report: RouterReport) -> Directive:
        return self.referee.report(report)

    async def rollout(self, model: str) -> dict[str, Any]:
        return self.referee.rollout(model)

    async def feedback(self, truths: Sequence[Truth]) -> list[Noted]:
        return self.referee.feedback(truths)


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[LoadedVersion]:
    """One tiny version of everything."""
    directory: Path = tmp_path_factory.mktemp("tiny")
    store = Store(directory / "store")
    images: dict[str, Any] = {
        "preprocessing": Preprocessing(height=8, width=16),
        "output": "probabilities",
        "labels": ("dark", "light"),
    }
    light = brightness(directory / "light.onnx", 8, 16)
    return [
        put(store, "light", light, {"image": IMAGE}, **images),
        put(store, "light", light, {"image": IMAGE}, **images),
        put(store, "affine", affine(directory / "affine.onnx"), {"x": floats([[1, 2, 3]])}),
        put(store, "lookup", lookup(directory / "lookup.onnx"), {"index": np.array([0])}),
        put(store, "pair", two_inputs(directory / "pair.onnx"), {"a": floats([[1, 2]]), "b": floats([[3, 4]])}),
        put(
            store,
            "broken",
            not_a_number(directory / "broken.onnx"),
            {"image": np.zeros((1, 2, 1, 1), np.uint8)},
            preprocessing=Preprocessing(height=2, width=1, channels="gray"),
            output="probabilities",
            labels=("a", "b"),
        ),
        put(
            store,
            "pixels",
            identity(directory / "pixels.onnx", (8, 16, 3)),
            {"image": IMAGE},
            preprocessing=Preprocessing(height=8, width=16),
        ),
        put(
            store,
            "digit_pixels",
            identity(directory / "digit_pixels.onnx", digits.PREPROCESSING.shape),
            {"image": np.zeros((1, *digits.PREPROCESSING.shape), np.uint8)},
            preprocessing=digits.PREPROCESSING,
        ),
    ]


@pytest.fixture
def model_servers(versions: list[LoadedVersion]) -> LocalModelServers:
    """All versions, up."""
    return LocalModelServers(versions)


@pytest.fixture
def settings() -> GatewaySettings:
    """Small limits."""
    return GatewaySettings(
        max_body_bytes=200_000, max_images_per_request=4, max_image_pixels=1_000_000, max_instances_per_request=100
    )


@pytest.fixture
def router(model_servers: LocalModelServers, settings: GatewaySettings) -> Router:
    """The real Router."""
    made = Router(settings, Preprocessor(model_servers, 2), model_servers)
    made.reconfigure(POLICY)
    return made


@pytest.fixture
def referee(tmp_path: Path) -> LocalReferee:
    """The real referee, with a history of its own."""
    return LocalReferee(Store(tmp_path))


@pytest.fixture
def client(router: Router, referee: LocalReferee) -> Iterator[TestClient]:
    """A client of the ASGI application."""
    with TestClient(create_api(router, referee), raise_server_exceptions=False) as made:
        yield made
