import asyncio
import random
from collections import Counter

import pytest

from deployments.messages import Answer, Capacity, Description, Reply, Requests, TensorRequest, Timing
from deployments.router import Router, Status
from deployments.settings import GatewaySettings
from models.errors import DeadlineExceeded, InvalidRequest, ModelNotFound, ModelUnavailable, Overloaded, VersionNotFound
from models.manifest import Artifact, Manifest
from models.policy import DeclaredRouting, RoutingPolicy
from models.signature import Signature, TensorSpec
from tests.fakes import Near, NoImages, soon
from tests.tiny import floats

POLICY = RoutingPolicy.model_validate({"models": {"digits": {"champion": 1, "challengers": {2: 0.25}}}})
SPEC = TensorSpec(name="x", dtype="float32", shape=(None, 1))


CAPACITY = Capacity("here", calls=2, max_rows=32, max_waiting_rows=256)


def manifest(model: str, version: int) -> Manifest:
    return Manifest(
        model=model,
        version=version,
        signature=Signature(inputs=(SPEC,), outputs=(SPEC,)),
        artifacts=(Artifact(kind="onnx", path="model.onnx", bytes=1),),
        chosen="onnx",
        chosen_because="the only artifact",
    )


class Versions(Near):
    """Versions that echo, count how often they are asked, and may be down."""

    def __init__(self) -> None:
        self.descriptions = 0
        self.down: set[int] = set()

    async def predict(self, model: str, version: int, requests: Requests) -> Reply:
        inputs = [request.inputs for request in requests if isinstance(request, TensorRequest)]
        return Reply([Answer(each, Timing()) for each in inputs], CAPACITY)

    async def describe(self, model: str, version: int) -> Description:
        self.descriptions += 1
        if version in self.down:
            raise ModelUnavailable(f"{model} version {version} is not running")
        return Description(manifest(model, version), CAPACITY)


def router(versions: Versions | None = None, policy: RoutingPolicy = POLICY, **settings: float) -> Router:
    made = Router(GatewaySettings.model_validate(settings), NoImages(), versions or Versions())
    made.reconfigure(policy)
    made.obey({name: entry.challengers for name, entry in policy.models.items()})
    return made


def test_until_the_referee_is_heard_the_champion_answers_and_nobody_gets_more_than_is_declared() -> None:
    made = Router(GatewaySettings(), NoImages(), Versions())
    made.reconfigure(POLICY)
    assert {made.choose("digits").version for _ in range(500)} == {1}
    made.obey({"digits": {2: 1.0}})
    assert (await_status(made)[1].share, made.choose("digits", 2).version) == (0.25, 2)


def await_status(made: Router) -> list[Status]:
    return asyncio.run(made.status())


def test_traffic_is_shared_as_declared() -> None:
    random.seed(0)
    chosen = router()
    shares = Counter(chosen.choose("digits").version for _ in range(20_000))
    assert shares[2] / 20_000 == pytest.approx(0.25, abs=0.01)
    assert set(shares) == {1, 2}


def test_a_challenger_without_a_share_is_only_asked_by_number() -> None:
    policy = RoutingPolicy.model_validate({"models": {"digits": {"champion": 1, "challengers": {2: 0.0}}}})
    chosen = router(policy=policy)
    assert {chosen.choose("digits").version for _ in range(1000)} == {1}
    assert chosen.choose("digits", 2).name == "challenger"
    assert chosen.choose("digits", 1).name == "champion"


def test_who_is_not_there_is_said_with_who_is() -> None:
    with pytest.raises(ModelNotFound, match="no model 'cats'; there are: digits"):
        router().choose("cats")
    with pytest.raises(VersionNotFound, match="model 'digits' has no live version 3; there are: 1, 2"):
        router().choose("digits", 3)
    with pytest.raises(ModelNotFound, match="no model is served yet"):
        router(policy=RoutingPolicy()).choose()
    nobody_yet = DeclaredRouting.model_validate({"models": {"digits": None}}).resolved({})
    with pytest.raises(ModelUnavailable, match="no version of model 'digits' runs yet"):
        router(policy=nobody_yet).choose()


def test_a_new_policy_counts_from_the_next_request_on() -> None:
    chosen = router()
    chosen.reconfigure(RoutingPolicy.model_validate({"models": {"digits": {"champion": 3}}}))
    assert chosen.choose().version == 3


def test_one_request_too_many_is_refused_and_a_place_is_given_back() -> None:
    async def crowd() -> None:
        chosen = router(max_concurrent_requests=2)
        async with chosen.admitted():
            async with chosen.admitted():
                with pytest.raises(Overloaded):
                    async with chosen.admitted():
                        pass
            async with chosen.admitted():
                pass

    asyncio.run(crowd())


def test_a_request_that_takes_too_long_is_given_up() -> None:
    async def wait() -> None:
        async with router(request_timeout_s=0.01).admitted():
            await asyncio.sleep(60)

    with pytest.raises(DeadlineExceeded, match=r"no answer within 0.01 s"):
        asyncio.run(wait())


def test_versions_describe_themselves_once() -> None:
    versions = Versions()
    chosen = router(versions)

    async def ask() -> None:
        for _ in range(3):
            answer = await chosen.predict(chosen.choose("digits", 1), {"x": floats([[1]])}, soon())
            assert answer.outputs["x"].tolist() == [[1]]

    asyncio.run(ask())
    assert versions.descriptions == 1


def test_images_are_not_for_models_that_take_tensors() -> None:
    chosen = router()
    with pytest.raises(InvalidRequest, match="takes tensors, not images; send them to /v1/models/digits:predict"):
        asyncio.run(chosen.predict_images(chosen.choose(), [b""], soon()))


def test_status_tells_who_cannot_answer() -> None:
    versions = Versions()
    versions.down = {2}
    statuses = asyncio.run(router(versions).status())
    assert [(s.variant.version, s.share, s.ready) for s in statuses] == [(1, 0.75, True), (2, 0.25, False)]


def test_a_version_that_just_answered_is_not_asked_whether_it_is_there() -> None:
    versions = Versions()
    chosen = router(versions)

    async def ask() -> None:
        await chosen.predict(chosen.choose("digits", 1), {"x": floats([[1]])}, soon())
        await chosen.predict(chosen.choose("digits", 2), {"x": floats([[1]])}, soon())
        asked = versions.descriptions
        assert all(status.ready for status in await chosen.status("digits"))
        assert versions.descriptions == asked

    asyncio.run(ask())
