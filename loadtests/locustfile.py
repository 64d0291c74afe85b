"""Users of a running service: `make loadtest`, or with the page where you start, stop and watch: `make loadtest-ui`.

    locust -f loadtests/locustfile.py --host http://127.0.0.1:8000 ImageUser

Without a class's name all of them come: ImageUser sends photographs of digits, TensorUser sends pixels as JSON,
MixedUser sends both, some of them wrong, as people do. They ask the model `digits` that `make serve` serves.
"""

import json
import random
from pathlib import Path
from typing import Any

from locust import FastHttpUser, between, constant, task

SEVEN = (Path(__file__).resolve().parents[1] / "docs" / "seven.png").read_bytes()
MODEL = "digits"
SIDE = 32
HOST = "http://127.0.0.1:8000"


def rows(count: int) -> bytes:
    """Pixels of some digits, uint8 [count, 32, 32, 1], in TensorFlow Serving's row format."""
    generator = random.Random(0)  # noqa: S311 - pictures, not secrets
    instances = [[[[generator.randrange(256)] for _ in range(SIDE)] for _ in range(SIDE)] for _ in range(count)]
    return json.dumps({"instances": instances}).encode()


ONE_ROW, EIGHT_ROWS = rows(1), rows(8)


class User(FastHttpUser):
    """What all have in common."""

    abstract = True
    host = HOST

    def ask_image(self) -> None:
        """One digit; an answer that is not a seven is a failure."""
        with self.client.post(
            "/predict", SEVEN, headers={"content-type": "image/png"}, name="image", catch_response=True
        ) as response:
            answer: Any = response.json() if response.status_code == 200 else {}
            if response.status_code == 200 and answer.get("predicted_class") != "7":
                response.failure(f"the seven was taken for {answer.get('predicted_class')!r}")

    def ask_rows(self, body: bytes, count: int) -> None:
        """Some rows of pixels; every one of them has to be answered."""
        with self.client.post(
            f"/v1/models/{MODEL}:predict",
            body,
            headers={"content-type": "application/json"},
            name=f"tensors, {count} row{'s' if count > 1 else ''}",
            catch_response=True,
        ) as response:
            if response.status_code == 200 and len(response.json()["predictions"]) != count:
                response.failure("rows are missing in the answer")


class ImageUser(User):
    """Sends an image, and the next when it is answered."""

    wait_time = constant(0)

    @task
    def image(self) -> None:
        self.ask_image()


class TensorUser(User):
    """Sends pixels as JSON."""

    wait_time = constant(0)

    @task(4)
    def one(self) -> None:
        self.ask_rows(ONE_ROW, 1)

    @task
    def eight(self) -> None:
        self.ask_rows(EIGHT_ROWS, 8)


class MixedUser(User):
    """Thinks a little between requests, sends all kinds, and now and then something that is no image."""

    wait_time = between(0.05, 0.5)

    @task(10)
    def image(self) -> None:
        self.ask_image()

    @task(5)
    def tensors(self) -> None:
        self.ask_rows(ONE_ROW, 1)

    @task(2)
    def health(self) -> None:
        self.client.get("/health", name="health")

    @task
    def no_image(self) -> None:
        with self.client.post(
            "/predict", b"not an image", headers={"content-type": "image/png"}, name="no image", catch_response=True
        ) as response:
            if response.status_code == 400:
                response.success()
            else:
                response.failure(f"no image was answered {response.status_code}, not 400")
