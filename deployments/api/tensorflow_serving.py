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
from deployments.api.choice import api_key, choose
from deployments.api.parameters import parameter, version_of
from deployments.api.request_id import request_id
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
LABEL = parameter("label", "path", "a label that the policy gives a version, whatever its share", "string")
VERSION = parameter("version", "path", "the version, whatever its share of the traffic", "integer")


@routes.post(
    "/{name}:predict",
    summary="Ask a model about tensors",
    responses=ANSWERS,
    openapi_extra={**OPENAPI, "parameters": [NAME]},
)
@routes.post(
    "/{name}/labels/{label}:predict",
    summary="Ask the version that has a label about tensors",
    responses=ANSWERS,
    openapi_extra={**OPENAPI, "parameters": [NAME, LABEL]},
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
        version = version_of(request.path_params.get("version"))
        variant = choose(router, request, version, request.path_params.get("label"))
        with router.place(variant):
            variant, manifest = await router.settle(variant, deadline)
            limit = router.settings.max_instances_per_request
            inputs = await read_body(request, lambda body: read_tensors(body, manifest.signature, limit))
            answer = await router.predict(variant, inputs, deadline, request_id(request.scope), api_key(request))
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
