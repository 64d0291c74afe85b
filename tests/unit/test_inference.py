"""What a ModelServer does with its calls, with backends of known cost and real tiny models."""

import asyncio
import os
import threading
import time
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from deployments.inference import Call, Inference
from deployments.messages import Answer, ImageRequest, Outcome, TensorRequest
from deployments.settings import Batching
from models.errors import DeadlineExceeded, InvalidImage, InvalidTensor, ModelFailed, TiltyardError
from models.preprocessing import Preprocessing
from models.signature import Signature, Tensors, TensorSpec
from tests.tiny import floats, image_bytes

T = TypeVar("T")
X = TensorSpec(name="x", dtype="float32", shape=(None, 1))


class Doubler:
    """A backend that takes a while, whatever the size of the batch, and fails on negative numbers."""

    precision = None

    def __init__(self, cost_s: float = 0.0, rows: int | None = None) -> None:
        spec = X.model_copy(update={"shape": (rows, 1)})
        self.signature = Signature(inputs=(spec,), outputs=(spec,))
        self.cost_s = cost_s
        self.batches: list[int] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def prepare(self, sizes: Collection[int]) -> Collection[int]:
        return ()

    def run(self, inputs: Tensors) -> Tensors:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.batches.append(len(inputs["x"]))
        time.sleep(self.cost_s)
        with self._lock:
            self.at_once -= 1
        if (inputs["x"] < 0).any():
            raise ModelFailed("negative")
        return {"x": inputs["x"] * 2}

    def run_with_embedding(self, inputs: Tensors) -> Tensors:
        return self.run(inputs)


def request(*values: float, timeout_s: float = 10) -> TensorRequest:
    return TensorRequest({"x": floats(values).reshape(-1, 1)}, timeout_s)


def ask(made: Inference, *requests: TensorRequest | ImageRequest) -> Coroutine[Any, Any, list[Outcome]]:
    """One call with these requests."""
    return made.predict(Call(requests))


def values(outcomes: list[Outcome]) -> list[Any]:
    return [o.outputs["x"].ravel().tolist() if isinstance(o, Answer) else type(o) for o in outcomes]


def inference(backend: Doubler, **batching: Any) -> Inference:
    made = Inference("doubler", backend)
    made.apply(Batching.model_validate(batching))
    return made


def run(scenario: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(scenario)


def test_a_bad_a_late_and_a_failing_request_leave_the_others_unharmed() -> None:
    wrong = TensorRequest({"y": floats([[1]])}, 10)
    call = [request(1), wrong, request(2, timeout_s=-1), request(-1), request(3, 4)]
    outcomes = run(ask(inference(Doubler()), *call))
    assert values(outcomes) == [[2], InvalidTensor, DeadlineExceeded, ModelFailed, [6, 8]]


def test_a_request_that_grows_late_while_it_waits_is_not_run() -> None:
    backend = Doubler(0.1)

    async def scenario() -> list[list[Outcome]]:
        made = inference(backend)
        first = asyncio.create_task(ask(made, request(1)))
        await asyncio.sleep(0.02)
        later = ask(made, request(2, timeout_s=0.05)), ask(made, request(3))
        return list(await asyncio.gather(first, *later))

    assert [values(outcomes) for outcomes in run(scenario())] == [[[2]], [DeadlineExceeded], [[6]]]
    assert backend.batches == [1, 1]


def test_calls_that_wait_meet_in_the_next_batch() -> None:
    backend = Doubler(0.05)

    async def scenario() -> None:
        made = inference(backend)
        first = asyncio.create_task(ask(made, request(0)))
        await asyncio.sleep(0.02)
        calls = [[request(i), request(i + 0.5)] for i in range(1, 6)]
        answers = await asyncio.gather(*(made.predict(Call(call)) for call in calls))
        assert [values(answer) for answer in answers] == [[[2.0 * i], [2.0 * i + 1]] for i in range(1, 6)]
        await first

    run(scenario())
    assert backend.batches == [1, 10]


def test_no_batch_is_larger_than_the_maximum_and_large_requests_are_split_and_joined() -> None:
    backend = Doubler()
    outcomes = run(ask(inference(backend, max_batch_size=4), request(*range(9)), request(9)))
    assert values(outcomes) == [[2 * i for i in range(9)], [18]]
    assert max(backend.batches) <= 4


def test_batches_are_padded_to_an_allowed_size() -> None:
    backend = Doubler()
    made = inference(backend, max_batch_size=8, allowed_batch_sizes=[2, 8])
    assert values(run(ask(made, request(1)))) == [[2]]
    assert values(run(ask(made, request(1, 2, 3)))) == [[2, 4, 6]]
    assert backend.batches == [2, 8]


def test_a_model_of_fixed_size_gets_that_size() -> None:
    backend = Doubler(rows=3)
    assert values(run(ask(inference(backend), request(1)))) == [[2]]
    assert backend.batches == [3]


def test_a_batch_is_computed_in_portions() -> None:
    backend = Doubler()
    made = inference(backend, max_batch_size=8, max_execution_batch_size=2)
    outcomes = run(ask(made, request(1), request(2), request(-3), request(4, 5, 6), request(7, 8), request(9)))
    assert values(outcomes[:2]) == [[2], [4]]
    assert isinstance(outcomes[2], ModelFailed)
    assert values(outcomes[3:]) == [[8, 10, 12], [14, 16], [18]]
    assert backend.batches == [2, 1, 2, 1, 2, 1]


def test_what_waited_for_other_portions_is_waiting() -> None:
    made = inference(Doubler(0.03), max_batch_size=3, max_execution_batch_size=1)
    for outcome in run(ask(made, request(1), request(2), request(3))):
        assert isinstance(outcome, Answer)
        assert outcome.timing.compute_ms >= 30
        assert outcome.timing.batch_ms >= 60


def test_calls_to_a_model_of_fixed_size_carry_several_of_it() -> None:
    assert inference(Doubler(rows=3), max_batch_size=8).max_rows == 6
    assert inference(Doubler(rows=1), max_batch_size=32).max_rows == 4
    assert inference(Doubler(rows=16), max_batch_size=8).max_rows == 16
    assert inference(Doubler(rows=3), max_batch_size=8, max_enqueued_batches=5).max_waiting_rows == 15


def test_as_many_batches_run_at_once_as_there_are_threads() -> None:
    backend = Doubler(0.05)

    async def scenario(made: Inference) -> None:
        await asyncio.gather(*(ask(made, request(i)) for i in range(4)))

    run(scenario(inference(backend, num_batch_threads=2, max_batch_size=1)))
    assert backend.most_at_once == 2


def test_a_call_whose_caller_has_gone_is_not_run() -> None:
    backend = Doubler(0.05)

    async def scenario() -> None:
        made = inference(backend)
        first = asyncio.create_task(ask(made, request(0)))
        await asyncio.sleep(0.02)
        left, stayed = Call([request(1)]), Call([request(2)])
        rest = asyncio.gather(made.predict(left), made.predict(stayed))
        left.is_abandoned = True
        await first
        assert [values(outcomes) for outcomes in await rest] == [[DeadlineExceeded], [[4]]]

    run(scenario())
    assert backend.batches == [1, 1]


def test_a_batch_waits_for_company_where_it_is_told_to() -> None:
    backend = Doubler()

    async def scenario() -> float:
        made = inference(backend, batch_timeout_micros=100_000, max_batch_size=4)
        started = time.perf_counter()
        await asyncio.gather(*(ask(made, request(i)) for i in range(4)))
        full_s = time.perf_counter() - started
        first = asyncio.create_task(ask(made, request(4)))
        await asyncio.sleep(0.02)
        await asyncio.gather(first, ask(made, request(5)))
        return full_s

    assert run(scenario()) < 0.05, "a full batch does not wait"
    assert backend.batches == [4, 2]


def test_a_bug_in_one_request_is_not_for_the_others() -> None:
    class Odd(Doubler):
        def __init__(self) -> None:
            super().__init__()
            self.signature = OddSignature(inputs=(X,), outputs=(X,))

    class OddSignature(Signature):
        def check(self, inputs: Tensors) -> dict[str, Any]:
            if (inputs["x"] == 7).any():
                raise ZeroDivisionError
            return super().check(inputs)

    assert values(run(ask(inference(Odd()), request(1), request(7), request(2)))) == [[2], TiltyardError, [4]]


def test_answers_tell_where_their_time_went() -> None:
    async def scenario() -> list[Outcome]:
        made = inference(Doubler(0.05))
        first = asyncio.create_task(ask(made, request(0)))
        await asyncio.sleep(0.02)
        second = await ask(made, request(1))
        return [*await first, *second]

    first, second = run(scenario())
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert 45 < first.timing.compute_ms < 100
    assert first.timing.batch_ms < 15
    assert 15 < second.timing.batch_ms < 80, "it came while the first was running"


@pytest.mark.parametrize(
    ("batching", "sizes"),
    [
        pytest.param({}, (1,), id="nothing said"),
        pytest.param({"max_execution_batch_size": 4}, (1, 4), id="portions"),
        pytest.param({"max_batch_size": 8}, (1, 8), id="small batches"),
        pytest.param({"allowed_batch_sizes": [2, 32]}, (2, 32), id="allowed"),
    ],
)
def test_what_will_be_computed_at_once_is_prepared_for(batching: dict[str, Any], sizes: tuple[int, ...]) -> None:
    assert Batching(**batching).prepared_sizes == sizes


def test_images_are_decoded_in_the_replica_where_it_is_told_to() -> None:
    class Mean(Doubler):
        def __init__(self) -> None:
            super().__init__()
            self.signature = Signature(
                inputs=(TensorSpec(name="image", dtype="uint8", shape=(None, 2, 2, 1)),), outputs=(X,)
            )

        def run(self, inputs: Tensors) -> Tensors:
            return {"x": inputs["image"].mean((1, 2, 3), dtype=np.float32)[:, None]}

    made = Inference("mean", Mean(), Preprocessing(height=2, width=2, channels="gray"))
    call = [ImageRequest(image, 10, 1000) for image in (image_bytes(Image.new("L", (4, 4), 7)), b"no image")]
    good, bad = run(ask(made, *call))
    assert isinstance(good, Answer)
    assert good.outputs["x"].tolist() == [[7]]
    assert good.timing.preprocess_ms > 0
    assert isinstance(bad, InvalidImage)


@pytest.mark.parametrize(
    "sizes", [[8, 4], [4], [4, 4, 16]], ids=["falling", "not up to max_batch_size", "one size twice"]
)
def test_allowed_sizes_must_rise_to_the_maximum(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="must rise, and end with max_batch_size 16"):
        Batching.model_validate({"max_batch_size": 16, "allowed_batch_sizes": sizes})


def test_portions_are_no_larger_than_the_batch_and_allowed_sizes_end_with_them() -> None:
    with pytest.raises(ValueError, match="max_execution_batch_size 8 must not be larger than max_batch_size 4"):
        Batching.model_validate({"max_batch_size": 4, "max_execution_batch_size": 8})
    portions = {"max_batch_size": 16, "max_execution_batch_size": 4}
    with pytest.raises(ValueError, match="must rise, and end with max_execution_batch_size 4"):
        Batching.model_validate({**portions, "allowed_batch_sizes": [4, 16]})
    assert Batching.model_validate({**portions, "allowed_batch_sizes": [1, 4]}).sizes(None).padded(3) == 4


def test_what_nobody_waits_for_is_computed_with_what_the_others_leave() -> None:
    niceness: list[int] = []
    policies: list[int] = []

    class Observed(Doubler):
        def run(self, inputs: Tensors) -> Tensors:
            niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            policies.append(os.sched_getscheduler(0))
            return super().run(inputs)

    async def scenario() -> None:
        made = inference(Observed())
        await ask(made, TensorRequest({"x": floats([[1]])}, 10, background=True))
        await ask(made, request(1))
        # A batch that somebody waits for is not held up by what else is in it.
        await asyncio.gather(ask(made, TensorRequest({"x": floats([[1]])}, 10, background=True)), ask(made, request(1)))

    run(scenario())
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness == [19, own, own]
    assert policies == [os.SCHED_IDLE, os.SCHED_OTHER, os.SCHED_OTHER]
