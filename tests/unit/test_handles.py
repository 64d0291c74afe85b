"""What comes out of a call between deployments, with the errors that Ray really raises, but without Ray running."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import grpc
import numpy as np
import pytest
from ray.exceptions import ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError

from deployments import handles
from deployments.channel import Gone
from deployments.messages import Answer, Capacity, Reply, Requests, TensorRequest, Timing
from models.errors import (
    ModelFailed,
    ModelUnavailable,
    Overloaded,
    PayloadTooLarge,
    ReplicaDied,
    TiltyardError,
)


def wrapped(cause: Exception) -> Exception:
    """The error as actor calls deliver it: of both classes at once, and with a remote traceback as its text."""
    error: Exception = RayTaskError("predict", 'Traceback: File "/srv/secret.py"', cause).as_instanceof_cause()
    return error


class Refused(grpc.RpcError):  # type: ignore[misc]
    """A gRPC error with a status."""

    def __init__(self, status: grpc.StatusCode) -> None:
        self.status = status

    def code(self) -> grpc.StatusCode:
        return self.status


class Replica:
    """Raises what it is given, one after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> Awaitable[str]:
        self.calls += 1
        return self._answer()

    async def _answer(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


class Fragile:
    """Replicas that a poisonous request kills, and that otherwise answer with what they were asked."""

    def __init__(self) -> None:
        self.calls: list[list[float]] = []

    def __call__(self, requests: Requests) -> Awaitable[Reply]:
        return self._answer(requests)

    async def _answer(self, requests: Requests) -> Reply:
        values = [float(r.inputs["x"][0]) for r in requests if isinstance(r, TensorRequest)]
        self.calls.append(values)
        if 13 in values:
            raise ActorUnavailableError("gone", None)
        if len(values) > 2 and 0 in values:
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED)
        answers = [Answer({"y": np.array([value])}, Timing()) for value in values]
        return Reply([*answers], Capacity("one", 2))


def asked(replica: Fragile, *values: float) -> list[Any]:
    requests = [TensorRequest({"x": np.array([value])}, 10) for value in values]
    reply = asyncio.run(handles.call_with(requests, replica))
    return [o.outputs["y"][0] if isinstance(o, Answer) else type(o) for o in reply.outcomes]


def test_a_request_that_kills_its_replica_does_not_take_its_neighbours_with_it() -> None:
    replica = Fragile()
    assert asked(replica, 1, 13, 2) == [1, ReplicaDied, 2]
    assert replica.calls.count([13]) == handles.ATTEMPTS
    assert [1, 13, 2] in replica.calls[:1]


def test_requests_that_are_too_large_together_are_sent_alone() -> None:
    replica = Fragile()
    assert asked(replica, 0, 1, 2) == [0, 1, 2]
    assert replica.calls == [[0, 1, 2], [0], [1], [2]]


def called(replica: Any) -> Any:
    return asyncio.run(handles.call(replica))


@pytest.mark.parametrize("deliver", [wrapped, lambda error: error], ids=["actor call", "grpc"])
def test_our_own_error_comes_out_without_a_traceback(deliver: Any) -> None:
    with pytest.raises(ModelFailed) as raised:
        called(Replica(deliver(ModelFailed("it failed"))))
    assert raised.value.message == "it failed"
    assert type(raised.value) is ModelFailed


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(wrapped(ZeroDivisionError("in /srv/secret.py")), TiltyardError, id="bug, actor call"),
        pytest.param(ZeroDivisionError("in /srv/secret.py"), TiltyardError, id="bug, grpc"),
        pytest.param(BackPressureError(3, 2), Overloaded, id="full"),
        pytest.param(wrapped(BackPressureError(3, 2)), Overloaded, id="full, further in"),
        pytest.param(Refused(grpc.StatusCode.RESOURCE_EXHAUSTED), PayloadTooLarge, id="message too large"),
    ],
)
def test_everything_else_becomes_one_of_ours(error: Exception, expected: type[TiltyardError]) -> None:
    with pytest.raises(TiltyardError) as raised:
        called(Replica(error))
    assert type(raised.value) is expected
    assert "secret" not in raised.value.message


@pytest.mark.parametrize(
    "death",
    [ActorUnavailableError("gone", None), Refused(grpc.StatusCode.UNAVAILABLE), Gone()],
    ids=["actor", "grpc", "socket"],
)
def test_a_request_is_sent_again_when_its_replica_died(death: Exception) -> None:
    replica = Replica(death)
    assert called(replica) == "answer"
    assert replica.calls == 2


def test_a_request_that_kills_every_replica_is_given_up() -> None:
    replica = Replica(*[Refused(grpc.StatusCode.UNAVAILABLE) for _ in range(9)])
    with pytest.raises(ModelUnavailable):
        called(replica)
    assert replica.calls == handles.ATTEMPTS
