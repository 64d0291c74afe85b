"""TensorFlow Serving's REST protocol: `:predict` in row format.

Source: https://www.tensorflow.org/tfx/serving/api_rest#predict_api. Columnar `inputs`, `:classify`, `:regress` and
the metadata routes are not here yet.
"""

from typing import Any

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from deployments.api.body import parse_json, read_body
from deployments.api.parameters import parameter, version_of
from deployments.api.responses import FAILURES, json_response
from deployments.router import Router
from models.backends import SIGNATURE
from models.errors import InvalidJSON, PayloadTooLarge
from models.json_tensors import read_instances
from models.signature import Signature, Tensors, rows_of

routes = APIRouter(tags=["tensors"], prefix="/v1/models")

_EXAMPLE = {"instances": [[1.0, 2.0, 5.0]]}
OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["instances"],
                    "properties": {"instances": {"type": "array", "items": {}}, "signature_name": {"type": "string"}},
                    "example": _EXAMPLE,
                }
            }
        },
    }
}


class Rows(BaseModel):
    """One prediction per instance: a value, or {output: value} where the model has several outputs."""

    predictions: list[Any]


ANSWERS: dict[int | str, dict[str, Any]] = {200: {"model": Rows}, **FAILURES}


NAME = parameter("name", "path", "the model", "string")
VERSION = parameter("version", "path", "the version, whatever its share of the traffic", "integer")


@routes.post(
    "/{name}:predict",
    summary="Ask a model about tensors",
    responses=ANSWERS,
    openapi_extra={**OPENAPI, "parameters": [NAME]},
)
@routes.post(
    "/{name}/versions/{version}:predict",
    summary="Ask a version about tensors",
    responses=ANSWERS,
    openapi_extra={**OPENAPI, "parameters": [NAME, VERSION]},
)
async def predict(request: Request) -> Response:
    """Ask a model, or one version of it, about rows of tensors."""
    router: Router = request.app.state.router
    async with router.admitted() as deadline:
        variant = router.choose(request.path_params["name"], version_of(request.path_params.get("version")))
        with router.place(variant):
            signature = (await router.manifest(variant)).signature
            limit = router.settings.max_instances_per_request
            inputs = await read_body(request, lambda body: read_tensors(body, signature, limit))
            answer = await router.predict(variant, inputs, deadline)
    return json_response({"predictions": rows(answer.outputs)}, answer.timing)


def read_tensors(body: bytes, signature: Signature, max_instances: int) -> Tensors:
    """The tensors of a request. Raises EmptyBody, InvalidJSON, InvalidTensor or PayloadTooLarge."""
    instances = _instances(parse_json(body))
    if isinstance(instances, list) and len(instances) > max_instances:
        raise PayloadTooLarge(f"{len(instances)} instances; at most {max_instances} are taken at once")
    return read_instances(signature, instances)


def _instances(body: dict[str, Any]) -> Any:
    if unknown := sorted(set(body) - {"instances", "signature_name"}):
        raise InvalidJSON(f"unknown field {unknown[0]!r}: expected 'instances' (row format)")
    if "instances" not in body:
        raise InvalidJSON("field 'instances' is missing: expected a list of instances")
    if body.get("signature_name", SIGNATURE) != SIGNATURE:
        raise InvalidJSON(f"signature_name: only {SIGNATURE!r} is served")
    return body["instances"]


def rows(outputs: Tensors) -> Any:
    """One value per row, named where there are several outputs. JSON has no NaN: it is written as null."""
    arrays = {name: np.ascontiguousarray(array) for name, array in outputs.items()}
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    return [{name: array[index] for name, array in arrays.items()} for index in range(rows_of(arrays))]
