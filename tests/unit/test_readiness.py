"""New versions are met before requests need them."""

import asyncio
import time

import pytest

from deployments import readiness
from deployments.fleet import Fleet
from deployments.lane import Lane
from deployments.messages import Capacity, Description, Reply, Requests
from deployments.preprocessor import Preprocessor
from deployments.readiness import Readiness
from deployments.router import Router
from deployments.settings import GatewaySettings
from models.errors import ModelUnavailable
from models.manifest import Artifact, Manifest
from models.policy import RoutingPolicy
from models.preprocessing import Preprocessing
from models.signature import Signature, TensorSpec
from tests.fakes import NoImages

POLICY = RoutingPolicy.model_validate({"models": {"cats": {"champion": 1, "challengers": {2: 1.0}}}})
SPEC = TensorSpec(name="x", dtype="uint8", shape=(None, 2, 2, 3))


class Shy:
    """Versions that say what they are when they are let, and may be down."""

    def __init__(self, takes_images: bool = False, decodes: bool = False) -> None:
        self.takes_images = takes_images
        self.capacity = Capacity("here", 2, decodes=decodes)
        self.let = asyncio.Event()
        self.down = False
        self.asked: list[int] = []

    async def describe(self, model: str, version: int) -> Description:
        self.asked.append(version)
        await self.let.wait()
        if self.down:
            raise ModelUnavailable("gone")
        manifest = Manifest(
            model=model,
            version=version,
            signature=Signature(inputs=(SPEC,), outputs=(SPEC,)),
            preprocessing=Preprocessing(height=2, width=2) if self.takes_images else None,
            artifacts=(Artifact(kind="onnx", path="model.onnx", bytes=1),),
            chosen="onnx",
            chosen_because="the only artifact",
        )
        return Description(manifest, self.capacity)

    async def predict(self, model: str, version: int, requests: Requests) -> Reply:
        raise AssertionError


def router_of(versions: Shy) -> Router:
    made = Router(GatewaySettings(), NoImages(), versions)
    made.reconfigure(POLICY)
    made.obey({"cats": {2: 1.0}})
    return made


def test_a_challenger_gets_nothing_before_it_is_met() -> None:
    async def scenario() -> None:
        versions = Shy()
        made = router_of(versions)
        meeting = asyncio.ensure_future(made.meet())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert made.choose("cats").version == 1
        assert made.choose("cats", 2).version == 2  # who names it waits for it
        versions.let.set()
        await meeting
        assert made.choose("cats").version == 2
        await made.meet()
        assert sorted(versions.asked) == [1, 2]

    asyncio.run(scenario())


@pytest.mark.parametrize("says_so", [True, False])
def test_who_cannot_be_met_is_asked_with_the_first_request(monkeypatch: pytest.MonkeyPatch, says_so: bool) -> None:
    async def scenario() -> None:
        versions = Shy()
        versions.down = True
        if says_so:
            versions.let.set()
        made = router_of(versions)
        await made.meet()
        assert made.choose("cats").version == 2

    monkeypatch.setattr(readiness, "TIMEOUT_S", 0.1)
    started = time.monotonic()
    asyncio.run(scenario())
    assert time.monotonic() - started < 1.0


class Met(NoImages):
    """A Preprocessor that notes whom it is to meet."""

    def __init__(self) -> None:
        self.met: list[int] = []

    async def meet(self, model: str, version: int) -> None:
        self.met.append(version)


@pytest.mark.parametrize(("takes_images", "decodes", "met"), [(True, False, [3]), (True, True, []), (False, False, [])])
def test_the_preprocessor_meets_whom_it_sends_pictures_to(takes_images: bool, decodes: bool, met: list[int]) -> None:
    async def scenario() -> None:
        versions, preprocessor = Shy(takes_images, decodes), Met()
        versions.let.set()
        lane = Lane("cats", 3, versions, preprocessor, Fleet(), 1000)
        await Readiness(lambda _: lane, preprocessor).meet([("cats", 3)])
        assert (lane.known is not None, preprocessor.met) == (True, met)

    asyncio.run(scenario())


def test_a_preprocessor_meets_a_version_by_asking_it() -> None:
    async def scenario() -> None:
        versions = Shy()
        versions.let.set()
        await Preprocessor(versions, 1).meet("cats", 4)
        assert versions.asked == [4]

    asyncio.run(scenario())
