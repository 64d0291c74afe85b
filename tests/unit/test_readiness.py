"""New versions are met before requests need them."""

import asyncio
import time

import pytest

from deployments import readiness
from deployments.fleet import Fleet
from deployments.lane import Lane
from deployments.messages import Capacity, Description, Reply, Requests
from deployments.preprocessor import Preprocessor
from deployments.router import Router
from deployments.settings import GatewaySettings
from models.errors import ModelUnavailable
from models.manifest import Artifact, Manifest
from models.policy import RoutingPolicy
from models.preprocessing import Preprocessing
from models.signature import Signature, TensorSpec
from tests.fakes import Near, NoImages

POLICY = RoutingPolicy.model_validate({"models": {"cats": {"champion": 1, "challengers": {2: 1.0}}}})
SPEC = TensorSpec(name="x", dtype="uint8", shape=(None, 2, 2, 3))


class Shy(Near):
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


async def settled(made: Router) -> None:
    """Wait until nobody is being met any more."""
    while any(made._readiness.is_meeting(("cats", version)) for version in (1, 2)):
        await asyncio.sleep(0.01)


def test_a_challenger_gets_nothing_before_it_is_met() -> None:
    async def scenario() -> None:
        versions = Shy()
        made = router_of(versions)
        made.meet()
        made.meet()
        assert made.choose("cats").version == 1
        assert made.choose("cats", 2).version == 2  # who names it waits for it
        versions.let.set()
        await settled(made)
        assert made.choose("cats").version == 2
        made.meet()
        assert made.choose("cats").version == 2
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
        made.meet()
        await settled(made)
        assert made.choose("cats").version == 2
        made.meet()  # and it is tried again when the policy changes
        assert made.choose("cats").version == 1

    monkeypatch.setattr(readiness, "TIMEOUT_S", 0.1)
    started = time.monotonic()
    asyncio.run(scenario())
    assert time.monotonic() - started < 1.0


def test_who_was_retired_is_met_again() -> None:
    async def scenario() -> None:
        versions = Shy()
        versions.let.set()
        made = router_of(versions)
        made.meet()
        await settled(made)
        made.reconfigure(RoutingPolicy.model_validate({"models": {"cats": {"champion": 1}}}))
        made.reconfigure(POLICY)
        made.obey({"cats": {2: 1.0}})
        made.meet()
        assert made.choose("cats").version == 1
        await settled(made)
        assert (made.choose("cats").version, versions.asked) == (2, [1, 2, 2])

    asyncio.run(scenario())


def test_who_is_retired_while_it_is_met_is_forgotten() -> None:
    async def scenario() -> None:
        versions = Shy()
        made = router_of(versions)
        made.meet()
        await asyncio.sleep(0.01)
        made.reconfigure(RoutingPolicy.model_validate({"models": {"cats": {"champion": 1}}}))
        made.reconfigure(POLICY)
        made.obey({"cats": {2: 1.0}})
        assert made.choose("cats").version == 2
        made.meet()
        await asyncio.sleep(0.01)
        assert made.choose("cats").version == 1
        versions.let.set()
        await settled(made)
        assert made.choose("cats").version == 2

    asyncio.run(scenario())


class Met(NoImages):
    """A Preprocessor that notes whom it is to meet."""

    def __init__(self) -> None:
        self.met: list[int] = []

    async def meet(self, model: str, version: int) -> None:
        self.met.append(version)


class Noting(Shy):
    """Versions that note whom somebody finds the way to."""

    def __init__(self, takes_images: bool, decodes: bool) -> None:
        super().__init__(takes_images, decodes)
        self.met: list[int] = []

    async def meet(self, model: str, version: int) -> None:
        self.met.append(version)


@pytest.mark.parametrize(
    ("takes_images", "decodes", "by_preprocessor"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_who_sends_to_a_version_finds_the_way_to_it(takes_images: bool, decodes: bool, by_preprocessor: bool) -> None:
    async def scenario() -> None:
        versions, preprocessor = Noting(takes_images, decodes), Met()
        versions.let.set()
        await Lane("cats", 3, versions, preprocessor, Fleet(), 1000).meet()
        assert (preprocessor.met, versions.met) == (([3], []) if by_preprocessor else ([], [3]))

    asyncio.run(scenario())


def test_a_preprocessor_finds_its_own_way() -> None:
    async def scenario() -> None:
        versions = Noting(takes_images=True, decodes=False)
        await Preprocessor(versions, 1).meet("cats", 4)
        assert versions.met == [4]

    asyncio.run(scenario())
