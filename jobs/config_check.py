"""serve_config.yaml, checked as a whole before anything changes."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from jobs.serve_config import ServeConfig, validated
from models.errors import InvalidConfig
from models.policy import application_name


def check(config: ServeConfig) -> None:
    """Check everything that can be checked without running it. Raises InvalidConfig naming the field."""
    from ray.serve.schema import ServeDeploySchema

    content = config.plain()
    validated(ServeDeploySchema, content, "serve_config.yaml")
    for application in content["applications"]:
        _check_application(application)
    for model, policy in config.policy.models.items():
        for version in policy.versions:
            if not config.has(model, version):
                name = application_name(model, version)
                raise InvalidConfig(f"Router user_config: {model} version {version} has no application {name!r}")
    for model in config.declared.open_models:
        _check_open(config, model)


def _check_open(config: ServeConfig, model: str) -> None:
    """Hold the applications of a model without a named champion against its version_policy and its labels."""
    entry, running = config.declared.models[model], config.running.get(model, set())
    where = f"Router user_config: models.{model}"
    live = entry.chosen(running)
    if not live:
        raise InvalidConfig(f"{where}: no application runs a version of it; `tiltyard deploy {model}` adds the newest")
    if left := sorted(running - set(live)):
        raise InvalidConfig(
            f"{where}: its version_policy leaves {application_name(model, left[0])!r} out; `tiltyard deploy {model}`"
            " removes it"
        )
    for label, version in entry.labels.items():
        if version not in live:
            raise InvalidConfig(f"{where}: label {label!r}: version {version} has no application")


def _check_application(application: Mapping[str, Any]) -> None:
    """Hold args and user_configs against the types that the builder and its deployments declare."""
    from ray.serve import Deployment

    name, import_path = application["name"], application["import_path"]
    module_name, _, attribute = import_path.partition(":")
    try:
        module = importlib.import_module(module_name)
        builder = getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidConfig(f"application {name!r}: import_path {import_path!r}: {error}") from None
    for parameter in inspect.signature(builder).parameters.values():
        if inspect.isclass(parameter.annotation) and issubclass(parameter.annotation, BaseModel):
            validated(parameter.annotation, application.get("args") or {}, f"application {name!r}, args")
    deployments = {value.name: value for value in vars(module).values() if isinstance(value, Deployment)}
    for entry in application.get("deployments") or []:
        if entry["name"] not in deployments:
            raise InvalidConfig(
                f"application {name!r}: no deployment {entry['name']!r}; there are: {sorted(deployments)}"
            )
        kind = getattr(deployments[entry["name"]].func_or_class, "user_config_type", None)
        if kind is not None and entry.get("user_config") is not None:
            validated(kind, entry["user_config"], f"application {name!r}, {entry['name']} user_config")
