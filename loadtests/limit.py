"""The limit of the machine: decode and infer the same bytes with no server at all.

    python -m loadtests.limit mobilenetv2 --seconds 5

First one request at a time in one process (the least latency there is), then one process with one thread per core,
each in a loop (the most images there are). It writes one line of JSON.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from typing import Any

import orjson

from loadtests.open_loop import percentile
from loadtests.peers.inference import Model
from loadtests.workloads import WORKLOADS, Workload

WARM_UP = 5


def answerer(workload: Workload) -> Callable[[], bytes]:
    """What a server has to do for one request between reading it and writing the answer."""
    model, body = Model(str(workload.onnx), workload.pixels), workload.body

    def answer() -> bytes:
        if workload.pixels:
            probabilities = model.classify_images([body])
        else:
            probabilities = model.classify_rows(orjson.loads(body)["instances"])
        return orjson.dumps({"predictions": probabilities}, option=orjson.OPT_SERIALIZE_NUMPY)

    return answer


def times_ms(workload: Workload, seconds: float, ready: Barrier | None = None) -> list[float]:
    """How long each answer takes, one after the other."""
    answer = answerer(workload)
    for _ in range(WARM_UP):
        answer()
    if ready is not None:
        ready.wait()
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while (started := time.perf_counter()) < stop:
        answer()
        times.append((time.perf_counter() - started) * 1000)
    return times


def on_all_cores(workload: Workload, seconds: float, processes: int) -> list[list[float]]:
    """The same in several processes at once."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        ready = manager.Barrier(processes)
        with context.Pool(processes) as pool:
            return pool.starmap(times_ms, [(workload, seconds, ready)] * processes)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Decode and infer in process, without a server.")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options: Any = parser.parse_args(arguments)
    workload = WORKLOADS[options.workload]
    alone = times_ms(workload, options.seconds)
    together = [each for times in on_all_cores(workload, options.seconds, options.processes) for each in times]
    result = {
        "processes": options.processes,
        "one": {"rps": len(alone) / options.seconds, **percentiles(alone)},
        "all": {"rps": len(together) / options.seconds, **percentiles(together)},
    }
    print(json.dumps(result))


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """Median and tail."""
    return {"p50_ms": percentile(times, 50), "p99_ms": percentile(times, 99)}


if __name__ == "__main__":
    main()
