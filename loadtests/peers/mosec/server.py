"""mosec: a Rust front, one process per core behind it, dynamic batching."""

import os
from typing import Any

import orjson
from mosec import Server, Worker

from loadtests.peers.inference import Model, pixels_from_environment


class Inference(Worker):
    """One worker process; `forward` gets a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    def serialize(self, data: Any) -> bytes:
        """JSON, straight from numpy."""
        return orjson.dumps({"predictions": [data]}, option=orjson.OPT_SERIALIZE_NUMPY)


class Images(Inference):
    """Encoded images."""

    def deserialize(self, data: bytes) -> bytes:
        """The body is the image."""
        return data

    def forward(self, data: list[bytes]) -> list[Any]:
        """Decode and classify a batch."""
        return list(self.model.classify_images(data))


class Rows(Inference):
    """Rows of numbers in JSON."""

    def deserialize(self, data: bytes) -> Any:
        """TensorFlow Serving's row format; one row per request, so that requests can be a batch."""
        return orjson.loads(data)["instances"][0]

    def forward(self, data: list[list[float]]) -> list[Any]:
        """Classify a batch."""
        return list(self.model.classify_rows(data))


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Images if pixels_from_environment() else Rows,
        num=int(os.environ["BENCH_WORKERS"]),
        max_batch_size=int(os.environ["BENCH_BATCH"]),
        max_wait_time=1,
        timeout=30,
    )
    server.run()
