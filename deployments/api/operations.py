"""Health, and what the service runs."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from deployments.api.responses import FAILURES, json_response
from deployments.router import Router, Status
from models.manifest import Manifest

routes = APIRouter(tags=["operations"])


class Health(BaseModel):
    """What cannot answer is `missing`.

    `status` is `ok` (200), `degraded` (200) while a challenger or shadow is missing, which clients do not notice, or
    while the Router goes by the policy of before because the last one was `refused`, or `unavailable` (503) while a
    champion is missing.
    """

    status: str
    missing: list[dict[str, Any]]
    refused: str | None = None


class Model(BaseModel):
    """The live versions of a model, champion first."""

    name: str
    versions: list[dict[str, Any]]


class Models(BaseModel):
    """Every model that is served."""

    models: list[Model]


@routes.get(
    "/health",
    summary="Can every configured version answer?",
    responses={200: {"model": Health}, 503: {"model": Health}},
)
async def health(request: Request) -> Response:
    """Tell whether every configured version can answer."""
    statuses = await _router(request).status()
    missing = [
        {"model": s.variant.model, "version": s.variant.version, "variant": s.variant.name, "state": "unavailable"}
        for s in statuses
        if not s.ready
    ]
    champions = [s.ready for s in statuses if s.variant.name == "champion"]
    is_up = bool(champions) and all(champions)
    refused = _router(request).refused
    status = "unavailable" if not is_up else "degraded" if missing or refused else "ok"
    response = json_response({"status": status, "missing": missing, **({"refused": refused} if refused else {})})
    response.status_code = 200 if is_up else 503
    return response


@routes.get("/health/live", summary="Does the process live?")
async def live() -> dict[str, str]:
    """Tell that the process answers, whatever its models do."""
    return {"status": "ok"}


@routes.get("/model-info", summary="Describe all models", responses={200: {"model": Models}})
async def model_info(request: Request) -> Response:
    """Describe every live version of every model."""
    by_model: dict[str, list[Status]] = {}
    for status in await _router(request).status():
        by_model.setdefault(status.variant.model, []).append(status)
    return json_response({"models": [_model(name, statuses) for name, statuses in by_model.items()]})


@routes.get("/models/{name}", summary="Describe a model", responses={200: {"model": Model}, **FAILURES})
async def model(request: Request, name: str) -> Response:
    """Describe every live version of one model."""
    return json_response(_model(name, await _router(request).status(name)))


def _router(request: Request) -> Router:
    router: Router = request.app.state.router
    return router


def _model(name: str, statuses: list[Status]) -> dict[str, Any]:
    return {"name": name, "versions": [_version(status) for status in statuses]}


def _version(status: Status) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "version": status.variant.version,
        "variant": status.variant.name,
        "share": status.share,
        "state": "ready" if status.ready else "unavailable",
    }
    return summary if status.manifest is None else {**summary, **_describe(status.manifest)}


def _describe(manifest: Manifest) -> dict[str, Any]:
    described = manifest.model_dump(
        mode="json", include={"signature", "preprocessing", "output", "labels", "metrics", "chosen", "chosen_because"}
    )
    provenance = manifest.provenance
    return {
        "created": provenance.created.isoformat() if provenance else None,
        "accuracy": manifest.metrics.get("accuracy"),
        "artifact": described.pop("chosen"),
        "artifact_because": described.pop("chosen_because"),
        **described,
    }
