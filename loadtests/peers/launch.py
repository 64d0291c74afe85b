"""What the peers' commands, requests and answers have in common."""

from collections.abc import Callable
from typing import Any

from loadtests.peers.peer import Command, Request, Start
from loadtests.workloads import BENCH, ROOT, Workload

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
        "PYTHONPATH": str(ROOT),
    }


def image_or_rows(workload: Workload) -> Request:
    """Own routes of the servers whose routes are the user's."""
    path = "/image" if workload.pixels else "/rows"
    return Request(path, {"Content-Type": workload.media_type}, workload.body)


def first_prediction(answer: Any) -> list[float]:
    """TensorFlow Serving's row format."""
    row: list[float] = answer["predictions"][0]
    return row


def program(peer: str, name: str, *arguments: str) -> Callable[[Start], Command]:
    """Start a program of the peer's environment; {port} and {cores} are filled in."""

    def command(start: Start) -> Command:
        filled = [argument.format(port=start.port, cores=start.cores) for argument in arguments]
        return Command([executable(peer, name), *filled], settings(start))

    return command


def multipart(path: str, name: str, body: bytes, media_type: str) -> Request:
    """A form with one file."""
    boundary = "tiltyard"
    head = (
        f"--{boundary}\r\nContent-Disposition: form-data; name={name!r}; filename=image\r\n"
        f"Content-Type: {media_type}\r\n\r\n"
    ).replace("'", '"')
    content = head.encode() + body + f"\r\n--{boundary}--\r\n".encode()
    return Request(path, {"Content-Type": f"multipart/form-data; boundary={boundary}"}, content)
