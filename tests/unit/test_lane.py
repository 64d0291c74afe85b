"""Lanes: few calls for many requests, and no version in another's way."""

import asyncio
import time
from collections.abc import Collection
from typing import Any

import numpy as np
import pytest

from deployments.fleet import Fleet
from deployments.inference import Call, Inference
from deployments.lane import Lane
from deployments.messages import Answer, Capacity, Description, Reply, Requests
from deployments.router import Router
from deployments.settings import Batching, GatewaySettings
from models.errors import ModelUnavailable, Overloaded
from models.manifest import Artifact, Manifest
from models.policy import RoutingPolicy
from models.signature import Signature, Tensors, TensorSpec
from tests.fakes import Near, NoImages, soon
from tests.tiny import floats

X = TensorSpec(name="x", dtype="float32", shape=(None, None))


class Doubler:
    """Doubles, slowly or not."""

    signature = Signature(inputs=(X,), outputs=(X,))
    precision = None

    def __init__(self, cost_s: float) -> None:
        self.cost_s = cost_s
        self.batches: list[int] = []

    def prepare(self, sizes: Collection[int]) -> Collection[int]:
        return ()

    def run(self, inputs: Tensors) -> Tensors:
        self.batches.append(len(inputs["x"]))
        time.sleep(self.cost_s)
        return {"x": inputs["x"] * 2}

    def run_with_embedding(self, inputs: Tensors) -> Tensors:
        return self.run(inputs)


class Versions(Near):
    """Versions of known cost, as many replicas of each as wanted, each asked in turn; counts calls."""

    def __init__(self, costs_s: dict[int, float], replicas: int = 1, **batching: Any) -> None:
        self.backends = {version: [Doubler(cost_s) for _ in range(replicas)] for version, cost_s in costs_s.items()}
        self.inferences = {
            version: [Inference("doubler", backend) for backend in backends]
            for version, backends in self.backends.items()
        }
        self.batching = Batching.model_validate(batching)
        for inference in (each for some in self.inferences.values() for each in some):
            inference.apply(self.batching)
        self.calls: list[int] = []
        self.in_flight = self.most_in_flight = 0
        self.down = False
        self.descriptions = 0

    def capacity(self, replica: int) -> Capacity:
        inference = self.inferences[1][0]
        return Capacity(str(replica), 2, inference.max_rows, inference.max_waiting_rows)

    async def describe(self, model: str, version: int) -> Description:
        self.descriptions += 1
        await asyncio.sleep(0)
        manifest = Manifest(
            model=model,
            version=version,
            signature=Doubler.signature,
            artifacts=(Artifact(kind="onnx", path="model.onnx", bytes=1),),
            chosen="onnx",
            chosen_because="the only artifact",
        )
        return Description(manifest, self.capacity(0))

    async def predict(self, model: str, version: int, requests: Requests) -> Reply:
        if self.down:
            raise ModelUnavailable("gone")
        self.calls.append(len(requests))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        replica = len(self.calls) % len(self.inferences[version])
        try:
            return Reply(await self.inferences[version][replica].predict(Call(requests)), self.capacity(replica))
        finally:
            self.in_flight -= 1


async def lane_of(versions: Versions, version: int = 1) -> Lane:
    lane = Lane("doubler", version, versions, NoImages(), Fleet(), 1000)
    await lane.describe()
    return lane


def row(*values: float) -> Tensors:
    return {"x": floats([values])}


async def ask(lane: Lane, *values: float) -> float:
    """Seconds until the right answer."""
    started = time.perf_counter()
    answer = await lane.predict(row(*values), soon())
    assert answer.outputs["x"].tolist() == [[2 * value for value in values]]
    return time.perf_counter() - started


def test_many_requests_become_few_calls() -> None:
    versions = Versions({1: 0.02})

    async def scenario() -> None:
        lane = await lane_of(versions)
        await asyncio.gather(*(ask(lane, value) for value in range(200)))

    asyncio.run(scenario())
    assert sum(versions.calls) == 200
    assert len(versions.calls) <= 12
    assert versions.most_in_flight == 2, "one that the replica works on, one that it takes next"


def test_calls_in_flight_follow_the_replicas_that_answer() -> None:
    versions = Versions({1: 0.01}, replicas=3, max_batch_size=4, max_enqueued_batches=100)

    async def scenario() -> None:
        lane = await lane_of(versions)
        await asyncio.gather(*(ask(lane, value) for value in range(200)))

    asyncio.run(scenario())
    assert versions.most_in_flight == 6


def test_a_request_larger_than_a_batch_is_split_and_joined() -> None:
    versions = Versions({1: 0.0}, max_batch_size=8)

    async def scenario() -> Answer:
        lane = await lane_of(versions)
        return await lane.predict({"x": floats(np.arange(50)[:, None])}, soon())

    answer = asyncio.run(scenario())
    assert answer.outputs["x"].ravel().tolist() == [2 * i for i in range(50)]
    assert max(versions.backends[1][0].batches) <= 8
    assert answer.timing.compute_ms > 0


def test_a_slow_challenger_never_delays_the_champion() -> None:
    versions = Versions({1: 0.002, 2: 0.5})

    async def scenario() -> list[float]:
        champion, challenger = await lane_of(versions, 1), await lane_of(versions, 2)
        slow = [asyncio.create_task(ask(challenger, value)) for value in range(100)]
        await asyncio.sleep(0.05)
        latencies = [await ask(champion, value) for value in range(100)]
        assert not any(task.done() for task in slow), "the challenger was busy all the while"
        for task in slow:
            task.cancel()
        return latencies

    assert sorted(asyncio.run(scenario()))[95] < 0.05


def test_overload_is_refused_and_the_admitted_keep_their_latency() -> None:
    """Twice what a replica of 20 ms batches of 4 can do: 200 rows a second."""
    versions = Versions({1: 0.02}, max_batch_size=4, max_enqueued_batches=4)

    async def scenario() -> tuple[list[float], int]:
        lane = await lane_of(versions)
        latencies, refused = [], 0

        async def arrive(value: float) -> None:
            nonlocal refused
            started = time.perf_counter()
            try:
                latencies.append(await ask(lane, value))
            except Overloaded:
                refused += 1
                assert time.perf_counter() - started < 0.05

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for index in range(800):
                await asyncio.sleep(max(0.0, began + index / 400 - time.perf_counter()))
                group.create_task(arrive(index))
        return sorted(latencies), refused

    latencies, refused = asyncio.run(scenario())
    assert refused > 200
    assert len(latencies) > 300, "what can be answered is"
    # At most four batches wait in the Router, two calls are on their way, one batch runs.
    assert latencies[int(len(latencies) * 0.99)] < 0.3


def test_10000_concurrent_mixed_requests_get_their_own_answers() -> None:
    versions = Versions({1: 0.0, 2: 0.0}, replicas=2, max_enqueued_batches=4096)
    policy = RoutingPolicy.model_validate({"models": {"doubler": {"champion": 1, "challengers": {2: 0.5}}}})

    async def scenario() -> None:
        router = Router(GatewaySettings(), NoImages(), versions)
        router.reconfigure(policy)

        async def one(index: int) -> None:
            # Of three widths, of one to four rows, some of no number at all: its own answer comes to each.
            values = [[float(index + i + j) for j in range(1 + index % 3)] for i in range(1 + index % 4)]
            variant = router.choose("doubler")
            answer = await router.predict(variant, {"x": floats(values)}, soon())
            assert answer.outputs["x"].tolist() == [[2 * value for value in row] for row in values]

        await asyncio.gather(*map(one, range(10_000)))

    asyncio.run(scenario())
    assert sum(versions.calls) == 10_000


@pytest.mark.parametrize("batching", [{}, {"max_batch_size": 1}], ids=["default", "one row at a time"])
def test_the_largest_request_is_answered_while_nothing_else_waits(batching: dict[str, Any]) -> None:
    versions = Versions({1: 0.0}, **batching)

    async def scenario() -> Answer:
        lane = await lane_of(versions)
        return await lane.predict({"x": floats(np.arange(4096)[:, None])}, soon())

    assert asyncio.run(scenario()).outputs["x"].ravel().tolist() == [2 * i for i in range(4096)]


def test_a_version_is_described_once_for_all_who_ask_first() -> None:
    versions = Versions({1: 0.0})

    async def scenario() -> None:
        lane = Lane("doubler", 1, versions, NoImages(), Fleet(), 1000)
        await asyncio.gather(*(ask(lane, value) for value in range(50)))

    asyncio.run(scenario())
    assert versions.descriptions == 1


def test_a_hung_challenger_takes_no_more_than_half_of_the_places() -> None:
    versions = Versions({1: 0.0, 2: 60.0})
    policy = RoutingPolicy.model_validate({"models": {"doubler": {"champion": 1, "challengers": {2: 0.5}}}})

    async def scenario() -> int:
        router = Router(GatewaySettings(max_concurrent_requests=8), NoImages(), versions)
        router.reconfigure(policy)

        async def hang(version: int) -> None:
            async with router.admitted():
                with router.place(router.choose("doubler", version)):
                    await asyncio.sleep(60)

        tasks = [asyncio.create_task(hang(2)) for _ in range(8)]
        await asyncio.sleep(0.01)
        refused = sum(task.done() and isinstance(task.exception(), Overloaded) for task in tasks)
        async with router.admitted() as deadline:
            variant = router.choose("doubler", 1)
            with router.place(variant):
                await router.predict(variant, row(1), deadline)
        for task in tasks:
            task.cancel()
        return refused

    assert asyncio.run(scenario()) == 4


def test_a_version_that_is_gone_fails_what_was_sent_to_it_and_is_asked_again() -> None:
    versions = Versions({1: 0.0})

    async def scenario() -> None:
        lane = await lane_of(versions)
        versions.down = True
        with pytest.raises(ModelUnavailable):
            await ask(lane, 1)
        versions.down = False
        await ask(lane, 1)

    asyncio.run(scenario())
