"""Which variant a request is for: what it names, and what it sticks by."""

import hashlib

from starlette.requests import Request

from deployments.question import Variant
from deployments.router import Router


def choose(router: Router, request: Request, version: int | None = None, label: str | None = None) -> Variant:
    """Pick who answers a request. Raises ModelNotFound, VersionNotFound, ModelUnavailable."""
    model = request.path_params.get("name")
    key = None if version or label else sticky_key(router, request, model)
    return router.choose(model, version, label, key)


def sticky_key(router: Router, request: Request, model: str | None) -> str | None:
    """What the request sticks by, where its model's policy says so and the request has it."""
    sticky = router.sticky(model)
    if sticky is None:
        return None
    if sticky.by == "field":
        return request.query_params.get(sticky.name or "")
    if sticky.by == "header":
        return request.headers.get(sticky.name or "")
    key = api_key(request)
    return hashlib.sha256(key.encode()).hexdigest() if key else None


def api_key(request: Request) -> str | None:
    """What the client names itself by, if it does."""
    return request.headers.get("authorization") or request.headers.get("x-api-key")
