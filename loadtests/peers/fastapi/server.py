"""FastAPI behind uvicorn: the model is a global of each worker process, as the tutorials have it.

An image's endpoint is a plain `def`, which FastAPI runs on its thread pool, as its documentation asks for blocking
work; a row of numbers takes microseconds, and a change of thread would cost more than it.
"""

from typing import Annotated

from fastapi import Body, FastAPI
from pydantic import BaseModel

from loadtests.peers.inference import Model

app = FastAPI()
model = Model()


class Rows(BaseModel):
    """TensorFlow Serving's row format."""

    instances: list[list[float]]


class Predictions(BaseModel):
    """One row of class probabilities per instance."""

    predictions: list[list[float]]


@app.post("/image")
def image(body: Annotated[bytes, Body(media_type="image/jpeg")]) -> Predictions:
    """Classify an encoded image."""
    return Predictions(predictions=model.classify_images([body]).tolist())


@app.post("/rows")
async def rows(body: Rows) -> Predictions:
    """Classify rows of numbers."""
    return Predictions(predictions=model.classify_rows(body.instances).tolist())
