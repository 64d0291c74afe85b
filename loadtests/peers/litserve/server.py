"""LitServe: `decode_request`, `batch`, `predict`, `unbatch`, `encode_response`, as its documentation has them."""

import os
from typing import Any

import litserve
import numpy as np
from fastapi import Request

from loadtests.peers.inference import Model, pixels_from_environment


def fields(request: Any) -> Any:
    """What is called a request here is its parsed form or JSON."""
    return request


class Images(litserve.LitAPI):
    """Encoded images."""

    def setup(self, device: str) -> None:
        """Load the model in each worker."""
        self.model = Model()

    # LitServe reads this annotation: with it, a form or JSON arrives parsed.
    def decode_request(self, request: Request) -> Any:
        """The file of the form."""
        return self.model.decode(fields(request)["file"].file.read())

    def batch(self, inputs: list[Any]) -> Any:
        """Stack what was decoded."""
        return np.stack(inputs)

    def predict(self, x: Any) -> Any:
        """Classify a batch."""
        return self.model.run(x)

    def unbatch(self, output: Any) -> list[Any]:
        """One row per request."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """TensorFlow Serving's row format."""
        return {"predictions": [output.tolist()]}


class Rows(Images):
    """Rows of numbers in JSON."""

    def decode_request(self, request: Request) -> Any:
        """One row per request."""
        return np.asarray(fields(request)["instances"][0], np.float32)


if __name__ == "__main__":
    api = Images if pixels_from_environment() else Rows
    server = litserve.LitServer(
        api(max_batch_size=int(os.environ["BENCH_BATCH"]), batch_timeout=0.001),
        accelerator="cpu",
        workers_per_device=int(os.environ["BENCH_WORKERS"]),
        timeout=60,
    )
    server.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), log_level="warning", generate_client_file=False)
