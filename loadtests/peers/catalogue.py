"""The peers, one line of what is special about each."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtests.peers.peer import Command, Peer, Request, Start
from loadtests.workloads import BENCH, Workload

HERE = Path(__file__).parent
ENVIRONMENTS = BENCH / "env"


def executable(peer: str, name: str) -> str:
    """A program of a peer's environment."""
    return str(ENVIRONMENTS / peer / "bin" / name)


def settings(start: Start) -> dict[str, str]:
    """What loadtests/peers/inference.py and the servers read."""
    pixels = start.workload.pixels
    return {
        "BENCH_MODEL": str(start.workload.onnx),
        "BENCH_PIXELS": "x".join(map(str, pixels)) if pixels else "",
        "BENCH_BATCH": str(start.workload.max_batch_size),
        "BENCH_WORKERS": str(start.cores),
        "BENCH_PORT": str(start.port),
        "BENCH_DIRECTORY": str(start.directory),
        "OMP_NUM_THREADS": "1",
        "PATH": os.environ["PATH"],
    }


def image_or_rows(workload: Workload) -> Request:
    """Own routes of the servers whose routes are the user's."""
    path = "/image" if workload.pixels else "/rows"
    return Request(path, {"Content-Type": workload.media_type}, workload.body)


def first_prediction(answer: Any) -> list[float]:
    """TensorFlow Serving's row format."""
    row: list[float] = answer["predictions"][0]
    return row


def module(peer: str, *arguments: str, program: str = "python") -> Any:
    """Start a program of the peer's environment."""

    def command(start: Start) -> Command:
        filled = [argument.format(port=start.port, cores=start.cores) for argument in arguments]
        return Command([executable(peer, program), *filled], settings(start))

    return command


FASTAPI = Peer(
    name="fastapi",
    title="FastAPI + uvicorn",
    command=module(
        *("fastapi", "loadtests.peers.fastapi.server:app", "--host=127.0.0.1", "--port={port}"),
        *("--workers={cores}", "--log-level=warning", "--no-access-log"),
        program="uvicorn",
    ),
    request=image_or_rows,
    read=first_prediction,
    requirements=HERE / "fastapi",
)
MOSEC = Peer(
    name="mosec",
    title="mosec",
    command=module("mosec", "-m", "loadtests.peers.mosec.server", "--address=127.0.0.1", "--port={port}"),
    request=lambda workload: Request("/inference", {"Content-Type": workload.media_type}, workload.body),
    read=first_prediction,
    requirements=HERE / "mosec",
)

PEERS: Mapping[str, Peer] = {peer.name: peer for peer in (FASTAPI, MOSEC)}
