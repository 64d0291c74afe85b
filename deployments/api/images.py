"""Images in, classes out."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from deployments.api.body import content_type, decode_base64, parse_json, read_body
from deployments.api.choice import api_key, choose
from deployments.api.parameters import parameter, version_of
from deployments.api.request_id import request_id
from deployments.api.responses import FAILURES, ErrorBody, json_response
from deployments.errors import error_body
from deployments.lane import answered
from deployments.messages import Answer
from deployments.question import Served, Variant
from deployments.router import Router
from models.classification import classify
from models.errors import EmptyBody, InvalidJSON, InvalidRequest, TiltyardError, UnsupportedMediaType
from models.manifest import Manifest

routes = APIRouter(tags=["images"])

RAW = ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
ACCEPTED = f"{', '.join(RAW)}, multipart/form-data with 'file', or application/json with 'image' or 'images'"


class Answered(BaseModel):
    """Who answered. `inference_time_ms` is the time the batch spent in the model."""

    inference_time_ms: float
    model: str
    model_version: int
    variant: str
    request_id: str


class Prediction(Answered):
    """What a classifier says of one image; the confidence is the probability of the class."""

    predicted_class: str
    confidence: float
    all_probabilities: dict[str, float]


class Outputs(Answered):
    """What any other model says of one image: its outputs by name."""

    outputs: dict[str, Any]


class ItemFailure(BaseModel):
    """One image of several that could not be answered."""

    error: ErrorBody


class Predictions(BaseModel):
    """What the model says of several images, in their order."""

    predictions: list[Prediction | Outputs | ItemFailure]


_IMAGE = {"type": "string", "format": "binary"}
_BASE64 = {"type": "string", "description": "base64 of a PNG, JPEG or WebP image"}
OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **{media_type: {"schema": _IMAGE} for media_type in RAW},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": {"type": "array", "items": _IMAGE}}}
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"image": _BASE64, "images": {"type": "array", "items": _BASE64}},
                }
            },
        },
    }
}
ANSWERS: dict[int | str, dict[str, Any]] = {200: {"model": Prediction | Outputs | Predictions}, **FAILURES}
VERSION = parameter("version", "query", "ask this version, whatever its share of the traffic", "integer")
NAME = parameter("name", "path", "the model", "string")


@routes.post(
    "/predict",
    summary="Ask the default model about images",
    responses=ANSWERS,
    openapi_extra={**OPENAPI, "parameters": [VERSION]},
)
@routes.post(
    "/models/{name}/predict",
    summary="Ask a model about images",
    responses=ANSWERS,
    openapi_extra={**OPENAPI, "parameters": [NAME, VERSION]},
)
async def predict(request: Request) -> Response:
    """Ask the model named, or the default one, about one image or several."""
    router: Router = request.app.state.router
    async with router.admitted() as deadline:
        variant = choose(router, request, version_of(request.query_params.get("version")))
        with router.place(variant):
            images, is_single = await read_images(request, router.settings.max_images_per_request)
            variant, _ = await router.settle(variant, deadline)
            served = await router.predict_images(variant, images, deadline, request_id(request.scope), api_key(request))
    return _one(served[0], request) if is_single else _many(served, request)


async def read_images(request: Request, max_images: int) -> tuple[list[bytes | TiltyardError], bool]:
    """Read the images of a request, each or why it is none, and whether one was sent as such and not in a list."""
    media_type = content_type(request)
    if media_type in RAW:
        body = await request.body()
        if not body:
            raise EmptyBody("the body is empty; an image was expected")
        return [body], True
    if media_type == "multipart/form-data":
        images = await _read_files(request, max_images)
        return [*images], len(images) == 1
    if media_type == "application/json":
        return await read_body(request, lambda body: _read_base64(parse_json(body), max_images))
    raise UnsupportedMediaType(f"content type {media_type or 'missing'!r}: expected {ACCEPTED}")


async def _read_files(request: Request, max_images: int) -> list[bytes]:
    try:
        async with request.form(max_files=max_images, max_fields=max_images) as form:
            files = [value for value in form.getlist("file") if isinstance(value, UploadFile)]
            if not files:
                raise InvalidRequest("field 'file' is missing: send each image as a file in it")
            return [await file.read() for file in files]
    except HTTPException as error:  # what Starlette finds wrong with a form
        raise InvalidRequest(str(error.detail)) from None


def _read_base64(body: dict[str, Any], max_images: int) -> tuple[list[bytes | TiltyardError], bool]:
    if set(body) == {"image"}:
        return [decode_base64(body["image"], "image")], True
    if set(body) != {"images"}:
        raise InvalidJSON("expected exactly one of the fields 'image' (base64) and 'images' (a list of base64)")
    values = body["images"]
    if not isinstance(values, list) or not values:
        raise InvalidJSON("images: expected a list of at least one base64 string")
    if len(values) > max_images:
        raise InvalidRequest(f"images: {len(values)} images; at most {max_images} are taken at once")
    return [_decoded(value, f"images[{index}]") for index, value in enumerate(values)], False


def _decoded(value: Any, field: str) -> bytes | TiltyardError:
    try:
        return decode_base64(value, field)
    except TiltyardError as error:
        return error


def _common(variant: Variant, request: Request) -> dict[str, Any]:
    return {
        "model": variant.model,
        "model_version": variant.version,
        "variant": variant.name,
        "request_id": request_id(request.scope),
    }


def _one(served: Served, request: Request) -> Response:
    answer = answered(served.outcome)
    return json_response(_prediction(served, answer, request), answer.timing)


def _many(all_served: list[Served], request: Request) -> Response:
    items = []
    timing = None
    for served in all_served:
        try:
            answer = answered(served.outcome)
            items.append(_prediction(served, answer, request))
            timing = answer.timing
        except TiltyardError as error:
            items.append({"error": error_body(error)})
    return json_response({"predictions": items}, timing)


def _prediction(served: Served, answer: Answer, request: Request) -> dict[str, Any]:
    assert served.manifest is not None  # who answered has said what it is
    return {**prediction(answer, served.manifest), **_common(served.variant, request)}


def prediction(answer: Answer, manifest: Manifest) -> dict[str, Any]:
    """The fields of one image's prediction. Raises ModelFailed where the model answered with NaN."""
    milliseconds = {"inference_time_ms": round(answer.timing.compute_ms, 3)}
    if manifest.output == "tensors":
        return {"outputs": {name: array[0] for name, array in answer.outputs.items()}, **milliseconds}
    row = next(iter(answer.outputs.values()))[0]
    classification = classify(row, manifest.output, manifest.labels)
    return {
        "predicted_class": classification.label,
        "confidence": classification.confidence,
        "all_probabilities": classification.probabilities,
        **milliseconds,
    }
