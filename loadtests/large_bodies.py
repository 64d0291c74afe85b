"""Is there a size of body at which answers fall off a cliff, or others have to wait? `make large-bodies`.

Bodies up to the 16 MiB that are allowed, one client, one after the other: pictures (the digits' champion, so all but
the decoding is small) and tensors as JSON (a mean over the pixels, so all but reading them is small). Beside each kind
goes a steady stream of small digits, whose latency tells whether large bodies hold up small ones.
"""

import argparse
import http.client
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from jobs import digits
from jobs.conversion import open_source
from jobs.publish import Publication, publish
from jobs.serve import Serving
from loadtests.digit_stream import Digit, Stream
from loadtests.live_champion import MODEL, serve_config, served, store_of_champion, write_config
from loadtests.operators import stand_for_other_machines
from loadtests.workloads import photograph
from models.store import Store

SIDE = 224
PIXELS = "pixels"
SMALL_RATE = 30.0
NO_LIMIT = 1 << 24


@dataclass(frozen=True, slots=True)
class Body:
    """A request, and what is in it."""

    title: str
    path: str
    media_type: str
    content: bytes


def pictures() -> Iterator[Body]:
    """One photograph in many sizes, and noise, which no codec makes small."""
    path = f"/models/{MODEL}/predict"
    for size in ((640, 480), (2048, 1536), (4096, 3072)):
        title = f"JPEG, {size[0]} x {size[1]}"
        yield Body(title, path, "image/jpeg", photograph(size, NO_LIMIT))
    noise = np.random.default_rng(0).integers(0, 256, (1800, 1800, 3), np.uint8)
    for title, media_type, kind, options in (
        ("JPEG of noise, 1800 x 1800", "image/jpeg", "JPEG", {"quality": 100, "subsampling": 0}),
        ("PNG of noise, 1800 x 1800", "image/png", "PNG", {"compress_level": 1}),
    ):
        file = io.BytesIO()
        Image.fromarray(noise).save(file, kind, **options)
        yield Body(title, path, media_type, file.getvalue())


def tensors() -> Iterator[Body]:
    """Rows of 224 x 224 x 3 floats, written short and in full."""
    row = np.random.default_rng(0).random((SIDE, SIDE, 3))
    for rows, places in ((1, 4), (4, 4), (10, 4), (1, 17), (5, 17)):
        instances = json.dumps({"instances": [np.round(row, places).tolist()] * rows})
        title = f"JSON, {rows} x 224 x 224 x 3, {places} digits"
        yield Body(title, f"/v1/models/{PIXELS}:predict", "application/json", instances.encode())


def publish_pixels(store: Store, directory: Path) -> int:
    """Publish the mean over the pixels of float32 [rows, 224, 224, 3]; its version."""
    shapes = ("pixels", ["rows", SIDE, SIDE, 3]), ("mean", ["rows", 3])
    given, wanted = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes)
    node = helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0)
    axes = numpy_helper.from_array(np.array([1, 2], np.int64), "axes")
    graph = helper.make_graph([node], PIXELS, [given], [wanted], [axes])
    path = directory / "pixels.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    publication = Publication(model=PIXELS, source=open_source(path), artifact="onnx")
    return publish(store, publication, print).manifest.version


def configuration(store: Store, port: int, version: int) -> dict[str, Any]:
    """The digits' champion, and the mean over pixels."""
    config = serve_config(store.root, port, {}, 1, {})
    gateway, champion = config["applications"]
    gateway["deployments"][0]["user_config"]["models"][PIXELS] = {"champion": version}
    named = {"name": f"{PIXELS}-v{version}", "args": {**champion["args"], "model": PIXELS, "version": version}}
    return {**config, "applications": [gateway, champion, {**champion, **named}]}


def ask(connection: http.client.HTTPConnection, body: Body) -> float:
    """Milliseconds until the answer. Raises SystemExit where it is not 200."""
    began = time.perf_counter()
    connection.request("POST", body.path, body.content, {"content-type": body.media_type})
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise SystemExit(f"{body.title}: {response.status} {answer[:300]!r}")
    return (time.perf_counter() - began) * 1000


def row(address: str, body: Body, small: Sequence[Digit], times: int) -> str:
    """Ask so often, with a stream of small requests beside; one row of the table."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    ask(connection, body)
    stream = Stream(address, small, SMALL_RATE, clients=8)
    with stream.flowing():
        took_ms = sorted(ask(connection, body) for _ in range(times))
    connection.close()
    size_mb = len(body.content) / 1e6
    p50 = statistics.median(took_ms)
    failed = len(stream.failures())
    beside = [reply.milliseconds for reply in stream.replies]
    return (
        f"| {body.title} | {size_mb:.2f} | {p50:.0f} | {took_ms[-1]:.0f} | {p50 / size_mb:.0f} |"
        f" {statistics.median(beside):.0f} | {stream.p99_ms():.0f} | {failed} of {len(beside)} |"
    )


@contextmanager
def serving_both(port: int) -> Iterator[Serving]:
    """Serve the two models."""
    with tempfile.TemporaryDirectory(prefix="tiltyard-") as name:
        directory = Path(name)
        store, path = store_of_champion(directory), directory / "serve_config.yaml"
        write_config(path, configuration(store, port, publish_pixels(store, directory)))
        with served(path) as serving:
            yield serving


def main() -> None:
    parser = argparse.ArgumentParser(description="Large bodies: what they take, and whether small ones wait for them.")
    parser.add_argument("--times", type=int, default=20, help="requests with each body")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    small = [Digit(file, "") for file in digits.load().held_out.files]
    with serving_both(options.port) as serving:
        stand_for_other_machines()
        print("\n| body | MB | p50 ms | slowest ms | ms per MB | small beside it: p50 ms | p99 ms | failed |")
        print("|---|---|---|---|---|---|---|---|")
        smallest = Body("PNG of a digit", f"/models/{MODEL}/predict", "image/png", small[0].file)
        for body in chain([smallest], pictures(), tensors()):
            print(row(serving.address, body, small, options.times))


if __name__ == "__main__":
    main()
