"""Equality of answers: before a server is timed, it has to say what the model says."""

import json
import urllib.request
from collections.abc import Sequence
from functools import cache

import numpy as np

from loadtests.peers.inference import Model
from loadtests.peers.peer import Peer, Request
from loadtests.workloads import Workload


class WrongAnswer(Exception):
    """A server that says something else than the model."""


@cache
def expected_answer(workload: Workload) -> list[float]:
    """Probabilities computed in process."""
    model = Model(str(workload.onnx), workload.pixels)
    if workload.pixels:
        return [float(value) for value in model.classify_images([workload.body])[0]]
    return [float(value) for value in model.classify_rows(json.loads(workload.body)["instances"])[0]]


def difference(answer: Sequence[float], expected: Sequence[float]) -> float:
    """The largest difference of a probability; infinite for another number of classes."""
    if len(answer) != len(expected):
        return float("inf")
    return float(np.abs(np.asarray(answer) - np.asarray(expected)).max())


def check_answer(peer: Peer, address: str, request: Request, expected: Sequence[float], tolerance: float) -> None:
    """Ask once. Raises OSError or ValueError where nobody answers 200 with JSON, WrongAnswer for another answer."""
    asked = urllib.request.Request(f"{address}{request.path}", request.body, dict(request.headers))
    with urllib.request.urlopen(asked, timeout=30) as response:
        answer = peer.read(json.load(response))
    if (off := difference(answer, expected)) > tolerance:
        raise WrongAnswer(f"a probability of its answer is off by {off:.2g}")
