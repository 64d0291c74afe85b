"""What a call between deployments costs, through Ray Serve's handle and past it: `python -m loadtests.call_cost`.

Two replicas on real Ray, one calling the other as a Router calls a ModelServer. CPU time is that of both processes,
from os.times.
"""

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from jobs.serve import fast_ingress

CALLS = 800
KINDS = ("stream", "bypass")


def cpu_s() -> float:
    """CPU time of this process."""
    times = os.times()
    return times.user + times.system


def deployments() -> tuple[type, type]:
    """The replica that is called, and the one that calls; Ray Serve reads its environment when it is imported."""
    import ray
    from ray import serve

    from deployments.bypass import PERIOD_S
    from deployments.bypass_server import Address, BypassServer
    from deployments.handles import Predictor
    from deployments.messages import Reply, Requests

    class Called:
        def __init__(self) -> None:
            self._bypass = BypassServer.of_replica(self.predict)

        async def describe(self) -> float:
            return cpu_s()

        async def predict(self, requests: Requests) -> Reply:
            return Reply([], None)

        async def predict_as_stream(self, requests: Requests) -> AsyncIterator[Reply]:
            yield await self.predict(requests)

        async def introduce(self, node: str, busy_s: float) -> AsyncIterator[Address | None]:
            yield await self._bypass.address(node)
            await asyncio.sleep(busy_s)

    class Caller:
        def __init__(self, called: Any) -> None:
            self._called = called

        async def measure(self, kind: str, size: int, clients: int) -> tuple[float, float, float]:
            """Milliseconds of a call: waited, CPU of the caller, CPU of the called."""
            from deployments.messages import ImageRequest

            os.environ["TILTYARD_BYPASS"] = "1" if kind == "bypass" else "0"
            predictor = Predictor(self._called)
            requests = [ImageRequest(os.urandom(size), 60.0, 1) for _ in range(4)]

            async def client(calls: int) -> None:
                for _ in range(calls):
                    await predictor.predict(requests)

            await client(1)
            await asyncio.sleep(PERIOD_S / 4)  # it is introduced
            await client(20)
            own, other, began = cpu_s(), await predictor.describe(), time.perf_counter()
            await asyncio.gather(*(client(CALLS // clients) for _ in range(clients)))
            waited = (time.perf_counter() - began) * clients
            spent, theirs = cpu_s() - own, await predictor.describe() - other
            return waited / CALLS * 1000, spent / CALLS * 1000, theirs / CALLS * 1000

    options = {"max_ongoing_requests": 256, "ray_actor_options": {"num_cpus": 0.1}}
    ray.init(include_dashboard=False, log_to_driver=False, num_cpus=2)
    return serve.deployment(**options)(Called), serve.deployment(**options)(Caller)


async def measure(rounds: int) -> None:
    from ray import serve

    handle = serve.get_app_handle("call-cost")
    print("| bytes of each of 4 images | clients | past the handle | ms | CPU ms, both ends |\n|---|---|---|---|---|")
    for size in (100, 45_000):
        for clients in (1, 4):
            for number in range(rounds):
                for kind in KINDS[:: 1 if number % 2 else -1]:
                    waited, caller, called = await handle.measure.remote(kind, size, clients)
                    past = "yes" if kind == "bypass" else "no"
                    print(f"| {size} | {clients} | {past} | {waited:.2f} | {caller + called:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a call between deployments costs.")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    os.environ.update(fast_ingress())
    called, caller = deployments()
    import ray
    from ray import serve

    serve.run(caller.bind(called.bind()), name="call-cost", route_prefix=None)  # type: ignore[attr-defined]
    try:
        asyncio.run(measure(options.rounds))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
