"""How variants fare against each other, and what their answers should have been."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from deployments.api.body import parse_json, read_body, validated
from deployments.api.responses import FAILURES, json_response
from deployments.feedback import Truth
from deployments.referee import RefereeHandle
from deployments.router import Router, Status
from models.errors import ModelNotFound, RefereeUnavailable

routes = APIRouter(tags=["rollouts"])

MAX_LABELS = 10_000
TIMEOUT_S = 5.0


class Label(BaseModel):
    """What the class of an answered request really was. `model` is needed where several answered one of that id."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(min_length=1, max_length=200)
    label: str = Field(max_length=200)
    model: str | None = Field(None, min_length=1, max_length=63)


class Labels(BaseModel):
    """Many at once."""

    model_config = ConfigDict(extra="forbid")

    feedback: list[Label] = Field(min_length=1, max_length=MAX_LABELS)


class Counted(BaseModel):
    """What became of them.

    To `pending` ones no answer is known: it is reported in a moment, or it was given too long ago, or to a model that
    has one version only. They count if it still comes. `ambiguous` ones name no model, and several models answered a
    request of that id; they count for none.
    """

    counted: int = 0
    corrected: int = 0
    duplicate: int = 0
    pending: int = 0
    ambiguous: int = 0


@routes.get("/models/{name}/rollout", summary="How do the variants of a model fare?", responses={**FAILURES})
async def rollout(request: Request, name: str) -> Response:
    """Tell every variant's share, statistics and verdict, and the last decisions.

    Of a model that never had more than one version since the Routers started nothing is watched: only its shares.
    """
    async with _within_reason():
        try:
            return json_response(await _referee(request).rollout(name))
        except ModelNotFound:
            router: Router = request.app.state.router
            return json_response(_unwatched(name, await router.status(name)))


@routes.post(
    "/feedback",
    summary="Tell what a request's class really was",
    responses={200: {"model": Counted}, **FAILURES},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [Label.model_json_schema(), Labels.model_json_schema()]},
                    "example": {"request_id": "2f9a...", "label": "7"},
                }
            },
        }
    },
)
async def feedback(request: Request) -> Response:
    """Count true classes against the answers of each version."""
    body = await read_body(request, parse_json)
    labels = validated(Labels, body).feedback if "feedback" in body else [validated(Label, body)]
    router: Router = request.app.state.router
    truths = [Truth(each.request_id, each.label, each.model) for each in labels]
    if router.log is not None:
        router.log.note_feedback(truths)
    async with _within_reason():
        noted = await _referee(request).feedback(truths)
    return json_response({**Counted().model_dump(), **Counter(noted)})


def _unwatched(model: str, statuses: Sequence[Status]) -> dict[str, Any]:
    """A rollout of which the referee has heard nothing."""
    variants = [
        {"version": each.variant.version, "variant": each.variant.name, "share": each.share} for each in statuses
    ]
    champion = next(each.variant.version for each in statuses if each.variant.name == "champion")
    return {"model": model, "champion": champion, "routers": 0, "agreeing": 0, "variants": variants}


@asynccontextmanager
async def _within_reason() -> AsyncIterator[None]:
    """Wait for the referee, but not for one that is being restarted. Raises RefereeUnavailable."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield
    except TimeoutError:
        raise RefereeUnavailable(f"the referee did not answer within {TIMEOUT_S:g} s; try again shortly") from None


def _referee(request: Request) -> RefereeHandle:
    referee: RefereeHandle = request.app.state.referee
    return referee
