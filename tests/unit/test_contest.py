"""Challengers that fail in every way, and shadows: the client notices nothing, and all of it is counted."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
import pytest

from deployments.messages import Answer, Capacity, Description, Reply, Requests, TensorRequest, Timing
from deployments.question import Rows
from deployments.router import Router
from deployments.settings import GatewaySettings
from models.errors import InvalidTensor, ModelFailed, ModelUnavailable, Overloaded, VersionNotFound
from models.manifest import Artifact, Manifest
from models.policy import RoutingPolicy
from models.signature import Signature, Tensors, TensorSpec
from models.variant_statistics import VariantStatistics
from tests.fakes import Near, NoImages, soon
from tests.tiny import floats

CAPACITY = Capacity("here", calls=4, max_rows=8, max_waiting_rows=256)
X = TensorSpec(name="x", dtype="float32", shape=(None, 2))
ROW = {"x": floats([[0.9, 0.1]])}


def manifest(version: int) -> Manifest:
    return Manifest(
        model="digits",
        version=version,
        signature=Signature(inputs=(X,), outputs=(X,)),
        output="probabilities",
        labels=("zero", "one"),
        artifacts=(Artifact(kind="onnx", path="model.onnx", bytes=1),),
        chosen="onnx",
        chosen_because="the only artifact",
    )


Behaviour = Callable[[Tensors], Awaitable[Tensors]]


async def echo(inputs: Tensors) -> Tensors:
    return inputs


async def refuse(inputs: Tensors) -> Tensors:
    raise ModelFailed("it failed")


async def hang(inputs: Tensors) -> Tensors:
    await asyncio.sleep(60)
    return inputs


async def say_nan(inputs: Tensors) -> Tensors:
    return {"x": inputs["x"] * np.nan}


async def say_too_little(inputs: Tensors) -> Tensors:
    return {"x": inputs["x"][:, :1]}


async def say_something_else(inputs: Tensors) -> Tensors:
    return {"y": inputs["x"]}


async def contradict(inputs: Tensors) -> Tensors:
    return {"x": inputs["x"][:, ::-1]}


async def break_down(inputs: Tensors) -> Tensors:
    raise ZeroDivisionError


class Versions(Near):
    """Versions that behave as they are told, and remember who was asked."""

    def __init__(self, **behaviours: Behaviour) -> None:
        self.behaviours = {int(name[1:]): behaviour for name, behaviour in behaviours.items()}
        self.asked: Counter[int] = Counter()
        self.in_background: Counter[int] = Counter()
        self.silent: set[int] = set()
        self.manifests = {version: manifest(version) for version in (1, 2, 3)}

    async def describe(self, model: str, version: int) -> Description:
        if version in self.silent:
            raise ModelUnavailable(f"{model} version {version} is not running")
        return Description(self.manifests[version], CAPACITY)

    async def predict(self, model: str, version: int, requests: Requests) -> Reply:
        outcomes: list[Any] = []
        for request in requests:
            assert isinstance(request, TensorRequest)
            self.asked[version] += 1
            self.in_background[version] += request.background
            began = time.perf_counter()
            outputs = await self.behaviours[version](request.inputs)
            outcomes.append(Answer(outputs, Timing(compute_ms=(time.perf_counter() - began) * 1000)))
        return Reply(outcomes, CAPACITY)


def router_of(versions: Versions, shares: dict[int, float] | None = None, **policy: Any) -> Router:
    made = Router(GatewaySettings(max_copies=2, shadow_duty_cycle=0.1), NoImages(), versions)
    entry = {"champion": 1, "fallback": {"after_s": 0.05, "breaker_failures": 5, "breaker_reset_s": 60}, **policy}
    made.reconfigure(RoutingPolicy.model_validate({"models": {"digits": entry}}))
    made.obey({"digits": shares or {**policy.get("challengers", {}), **policy.get("shadows", {})}})
    return made


async def ask(router: Router, version: int | None = None, inputs: Tensors = ROW) -> Answer:
    variant, _ = await router.settle(router.choose("digits", version), soon())
    return await router.predict(variant, inputs, soon(), "some-request")


def seen(router: Router, version: int) -> VariantStatistics:
    return router.contest.scores.statistics().get(("digits", version), VariantStatistics())


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (refuse, "model_failed"),
        (hang, "deadline_exceeded"),
        (say_nan, "model_failed"),
        (say_too_little, "model_failed"),
        (say_something_else, "model_failed"),
        (break_down, "internal_error"),
    ],
)
def test_the_champion_answers_for_a_challenger_that_fails(behaviour: Behaviour, code: str) -> None:
    async def run() -> None:
        versions = Versions(v1=echo, v2=behaviour)
        router = router_of(versions, challengers={2: 1.0})
        for _ in range(3):
            answer = await ask(router)
            np.testing.assert_array_equal(answer.outputs["x"], ROW["x"])
        assert seen(router, 2).failures == {code: 3}
        assert seen(router, 2).answered == 0
        assert seen(router, 1).requests == 0  # they were not drawn for it

    asyncio.run(run())


def test_a_challenger_that_is_not_there_is_not_noticed() -> None:
    async def run() -> None:
        versions = Versions(v1=echo)
        versions.silent = {2}
        router = router_of(versions, challengers={2: 1.0})
        answer = await ask(router)
        assert answer.outputs["x"].shape == (1, 2)
        assert seen(router, 2).failures == {"model_unavailable": 1}

    asyncio.run(run())


PATIENT = {"after_s": 5.0, "breaker_failures": 5, "breaker_reset_s": 60}


def test_after_some_failures_in_a_row_it_is_not_asked_any_more() -> None:
    async def run() -> None:
        versions = Versions(v1=echo, v2=refuse)
        router = router_of(versions, challengers={2: 1.0}, fallback=PATIENT)
        for _ in range(20):
            await ask(router)
        assert versions.asked[2] == 5
        assert versions.asked[1] == 20
        assert router.contest.breaker(("digits", 2)).trips == 1

    asyncio.run(run())


async def fail_like_all(inputs: Tensors) -> Tensors:
    raise Overloaded("everything is full")


async def be_late(inputs: Tensors) -> Tensors:
    await asyncio.sleep(0.1)
    return inputs


@pytest.mark.parametrize("champion", [fail_like_all, be_late], ids=["fails", "is as late"])
def test_where_the_champion_does_no_better_the_breaker_stays_closed(champion: Behaviour) -> None:
    async def run() -> None:
        router = router_of(Versions(v1=champion, v2=hang), challengers={2: 1.0})
        for _ in range(6):
            with suppress(Overloaded):
                await ask(router)
        assert router.contest.breaker(("digits", 2)).trips == 0
        assert seen(router, 2).failures == {"deadline_exceeded": 6}

    asyncio.run(run())


def test_a_champion_that_the_deadline_cuts_short_has_failed_and_one_whose_client_goes_has_not() -> None:
    async def run() -> None:
        router = router_of(Versions(v1=hang, v2=echo), challengers={2: 0.0})
        for timeout_s, deadline_s in ((0.05, 0.05), (0.05, 60.0)):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await router.predict(router.choose("digits"), ROW, time.monotonic() + deadline_s)
        assert seen(router, 1).failures == {"deadline_exceeded": 1}

    asyncio.run(run())


def test_where_both_are_cut_short_by_the_deadline_the_challenger_has_failed_too() -> None:
    async def run() -> None:
        router = router_of(Versions(v1=hang, v2=hang), challengers={2: 1.0})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await router.predict(router.choose("digits"), ROW, time.monotonic() + 0.1)
        assert seen(router, 2).failures == {"deadline_exceeded": 1}
        assert router.contest.breaker(("digits", 2)).trips == 0

    asyncio.run(run())


def test_who_asks_for_a_version_gets_it_or_its_error() -> None:
    async def run() -> None:
        router = router_of(Versions(v1=echo, v2=refuse), challengers={2: 0.5})
        with pytest.raises(ModelFailed):
            await ask(router, 2)
        assert seen(router, 2).failed == 0

    asyncio.run(run())


def test_what_both_find_wrong_with_a_request_is_no_failure_of_the_challenger() -> None:
    async def complain(inputs: Tensors) -> Tensors:
        raise InvalidTensor("input 'x': too long")

    async def run() -> None:
        router = router_of(Versions(v1=complain, v2=complain), challengers={2: 1.0})
        with pytest.raises(InvalidTensor):
            await ask(router)
        assert seen(router, 2).failed == 0
        assert seen(router, 1).failed == 0

    asyncio.run(run())


def test_when_both_fail_the_client_is_told_what_the_champion_said() -> None:
    async def is_full(inputs: Tensors) -> Tensors:
        raise Overloaded("the champion is full")

    async def run() -> None:
        router = router_of(Versions(v1=is_full, v2=refuse), challengers={2: 1.0})
        with pytest.raises(Overloaded, match="the champion is full"):
            await ask(router)

    asyncio.run(run())


def test_a_challengers_answers_are_compared_with_the_champions() -> None:
    async def run() -> None:
        versions = Versions(v1=echo, v2=contradict)
        router = router_of(versions, challengers={2: 1.0}, guard={"compare": 1.0})
        for _ in range(4):
            answer = await ask(router)
            assert answer.outputs["x"].tolist() == [[pytest.approx(0.1), pytest.approx(0.9)]]
            await until(lambda: versions.asked[1] == versions.asked[2])
        await until(lambda: seen(router, 2).compared == 4)
        statistics = seen(router, 2)
        assert (statistics.agreed, statistics.pairs) == (0, {("zero", "one"): 4})
        assert statistics.max_difference == pytest.approx(0.8)
        assert statistics.classes == {"one": 4}
        assert seen(router, 1).answered == 0  # nobody waited for it
        examples = router.contest.scores.disagreements()["digits", 2]
        assert (examples[0].request_id, examples[0].champion, examples[0].version) == ("some-request", "zero", "one")

    asyncio.run(run())


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():
            await asyncio.sleep(0.001)


def test_a_shadow_is_asked_in_the_background_and_never_answers() -> None:
    async def run() -> None:
        versions = Versions(v1=echo, v3=contradict)
        router = router_of(versions, shadows={3: 1.0})
        answer = await ask(router)
        np.testing.assert_array_equal(answer.outputs["x"], ROW["x"])
        await until(lambda: seen(router, 3).compared == 1)
        assert versions.in_background == {1: 0, 3: 1}
        assert seen(router, 3).agreed == 0

    asyncio.run(run())


def test_a_shadow_that_hangs_holds_nobody_up_and_what_it_misses_is_counted() -> None:
    async def run() -> None:
        versions = Versions(v1=echo, v3=hang)
        router = router_of(versions, shadows={3: 1.0})
        async with asyncio.timeout(2):
            for _ in range(50):
                await ask(router)
        assert seen(router, 3).dropped == 48  # two are on their way
        assert seen(router, 1).answered == 50

    asyncio.run(run())


async def take_long(inputs: Tensors) -> Tensors:
    await asyncio.sleep(0.2)
    return inputs


async def fail_late(inputs: Tensors) -> Tensors:
    await asyncio.sleep(0.2)
    raise ModelFailed("it failed")


@pytest.mark.parametrize("behaviour", [take_long, fail_late])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_slow_shadow_rests_after_a_copy(behaviour: Behaviour, rows: int) -> None:
    async def run() -> None:
        versions = Versions(v1=echo, v3=behaviour)
        router = router_of(versions, shadows={3: 1.0})
        inputs = {"x": np.repeat(ROW["x"], rows, axis=0)}
        await ask(router, inputs=inputs)
        await until(lambda: seen(router, 3).compared + seen(router, 3).failed == 1)
        await ask(router, inputs=inputs)  # it rests for 1.8 s
        assert seen(router, 3).dropped == 1
        assert versions.asked == {1: 2, 3: 1}

    asyncio.run(run())


def test_what_is_not_answered_is_not_missed_by_a_shadow() -> None:
    async def run() -> None:
        router = router_of(Versions(v1=refuse, v3=hang), shadows={3: 1.0})
        router.contest._copies._budgets["digits", 3].on_their_way = 2
        with pytest.raises(ModelFailed):
            await ask(router)
        assert seen(router, 3).dropped == 0

    asyncio.run(run())


def test_a_version_that_comes_back_has_no_more_copies_than_before() -> None:
    async def run() -> None:
        router = router_of(Versions(v1=echo, v3=hang), shadows={3: 1.0})
        await ask(router)
        await ask(router)
        router.contest.forget({("digits", 1)})
        await ask(router)
        assert seen(router, 3).dropped == 1

    asyncio.run(run())


@pytest.mark.parametrize("behaviour", [refuse, break_down])
def test_a_shadow_that_fails_is_counted_however_it_fails(behaviour: Behaviour) -> None:
    async def run() -> None:
        router = router_of(Versions(v1=echo, v3=behaviour), shadows={3: 1.0})
        await ask(router)
        await until(lambda: seen(router, 3).failed == 1)

    asyncio.run(run())


def test_a_full_challenger_passes_its_requests_to_the_champion() -> None:
    async def run() -> None:
        versions = Versions(v1=echo, v2=hang)
        router = router_of(versions, challengers={2: 1.0})
        router.reconfigure(router._declared)
        router._lane(("digits", 2)).requests = 10_000
        assert router.choose("digits").version == 1
        assert seen(router, 2).failures == {"overloaded": 1}
        router._lane(("digits", 1)).requests = 10_000
        assert router.choose("digits").version == 1
        assert seen(router, 2).failures == {"overloaded": 1}  # the champion is as full

    asyncio.run(run())


async def say_too_many_classes(inputs: Tensors) -> Tensors:
    return {"x": np.repeat(inputs["x"], 2, axis=1)}


def test_an_answer_in_other_classes_than_the_champions_is_none() -> None:
    async def run() -> None:
        versions = Versions(v1=echo, v2=say_too_many_classes)
        loose = X.model_copy(update={"shape": (None, None)})
        versions.manifests[2] = manifest(2).model_copy(
            update={"signature": Signature(inputs=(X,), outputs=(loose,)), "labels": None}
        )
        router = router_of(versions, challengers={2: 1.0})
        await ask(router, 1)
        answer = await ask(router)
        assert answer.outputs["x"].shape == (1, 2)
        assert seen(router, 2).failures == {"model_failed": 1}

    asyncio.run(run())


def test_a_request_counts_once_however_many_rows_it_has() -> None:
    async def run() -> None:
        versions = Versions(v1=echo, v2=contradict)
        router = router_of(versions, challengers={2: 1.0}, guard={"compare": 1.0})
        await ask(router, inputs={"x": floats([[0.9, 0.1]] * 6)})
        await until(lambda: seen(router, 2).compared == 1)
        statistics = seen(router, 2)
        assert (statistics.answered, statistics.confident, statistics.agreed) == (1, 1, 0)
        assert statistics.classes == {"one": 6}
        versions.behaviours[2] = refuse
        await ask(router, inputs={"x": floats([[0.9, 0.1]] * 6)})
        assert seen(router, 2).failed == 1
        assert router.contest.breaker(("digits", 2)).trips == 0

    asyncio.run(run())


def test_whoever_was_drawn_for_a_version_that_is_retired_gets_the_champion() -> None:
    async def run() -> None:
        router = router_of(Versions(v1=echo, v2=echo), challengers={2: 1.0})
        drawn, named = router.choose("digits"), router.choose("digits", 2)
        assert drawn.version == named.version == 2
        router.reconfigure(RoutingPolicy.model_validate({"models": {"digits": {"champion": 1}}}))
        served = await router._answer(drawn, Rows(ROW), soon(), "")
        assert served[0].variant.version == 1
        with pytest.raises(VersionNotFound):
            await router.predict(named, ROW, soon())

    asyncio.run(run())


def test_a_shadow_that_becomes_a_challenger_waits_for_the_referee() -> None:
    router = router_of(Versions(v1=echo, v2=echo), shadows={2: 1.0})
    entry = {"champion": 1, "challengers": {2: 0.5}}
    router.reconfigure(RoutingPolicy.model_validate({"models": {"digits": entry}}))
    assert {router.choose("digits").version for _ in range(200)} == {1}
    router.obey({"digits": {2: 0.5}}, configured=0.0)  # said of the policy before
    assert {router.choose("digits").version for _ in range(200)} == {1}
    router.obey({"digits": {2: 0.5}})
    assert {router.choose("digits").version for _ in range(200)} == {1, 2}


def test_a_shadow_takes_no_places_from_the_champion() -> None:
    router = router_of(Versions(v1=echo, v2=echo), shadows={2: 1.0})
    with ExitStack() as held:
        for _ in range(router.settings.max_concurrent_requests):
            held.enter_context(router.place(router.choose("digits")))
        with pytest.raises(Overloaded), router.place(router.choose("digits")):
            pass


def test_a_report_outlives_the_end_of_a_model() -> None:
    async def run() -> None:
        router = router_of(Versions(v1=echo, v2=refuse), challengers={2: 1.0})
        for _ in range(3):
            await ask(router)
        router._declared = RoutingPolicy.model_validate({"models": {"other": {"champion": 1}}})
        report = router.report()
        assert report is not None
        assert report.breakers == {}

    asyncio.run(run())
