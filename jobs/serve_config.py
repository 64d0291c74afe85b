"""serve_config.yaml: read, edited with its comments and order kept, written in one step."""

import copy
import difflib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from jobs import policy_entry
from jobs.comment_lines import keep_comments
from models.errors import Conflict, InvalidConfig, ModelNotFound, VersionNotFound
from models.manifest import ArtifactKind
from models.monitoring import IMPORT_PATH, MonitoringSettings
from models.policy import DeclaredRouting, ModelPolicy, RoutingPolicy, application_name, versions_of
from models.rollout import History
from models.store import DEFAULT_ROOT, Store
from models.validation import first_fault

T = TypeVar("T", bound=BaseModel)

GATEWAY = "deployments.app:gateway"
MODEL_VERSION = "deployments.app:model_version"


class ServeConfig:
    """One serve_config.yaml in memory: what it says, and as long as nobody edits it, how it was written."""

    def __init__(self, data: CommentedMap, original: str = "") -> None:
        self.data = data
        self.original = original

    @classmethod
    def read(cls, path: Path) -> "ServeConfig":
        """Read a file. Raises InvalidConfig."""
        original = read_text(path)
        try:
            data = _yaml().load(original)
        except YAMLError as error:
            raise InvalidConfig(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(data, CommentedMap) or not isinstance(data.get("applications"), list):
            raise InvalidConfig(f"{path}: expected a mapping with a list of 'applications'")
        return cls(data, original)

    def copy(self) -> "ServeConfig":
        """An independent copy to edit."""
        return ServeConfig(_yaml().load(self.text))  # a deep copy loses comments

    def with_applications(self, applications: Iterable[Mapping[str, Any]]) -> "ServeConfig":
        """Copy with these applications in place of its own, as a service tells them."""
        buffer = io.StringIO()
        _yaml().dump({**self.plain(), "applications": [_plain(each) for each in applications]}, buffer)
        return ServeConfig(_yaml().load(buffer.getvalue()))

    def edited(self, edit: Callable[["ServeConfig"], None]) -> "ServeConfig":
        """An edited copy, in which comment lines stay where they are. Raises what the edit does."""
        before = self.text
        after = ServeConfig(_yaml().load(before))
        edit(after)
        kept = ServeConfig(_yaml().load(keep_comments(before, after.text)))
        return kept if kept.plain() == after.plain() else after

    @property
    def text(self) -> str:
        """The file's text."""
        buffer = io.StringIO()
        _yaml().dump(self.data, buffer)
        return buffer.getvalue()

    def plain(self) -> dict[str, Any]:
        """The content as Ray Serve takes it."""
        return copy.deepcopy(_content(self.text))

    def diff(self, changed: "ServeConfig", name: str) -> str:
        """A unified diff from the file as it was read to the changed one; empty where they say the same."""
        if self.text == changed.text:
            return ""
        before, after = self.original.splitlines(keepends=True), changed.text.splitlines(keepends=True)
        return "".join(difflib.unified_diff(before, after, name, name))

    @property
    def declared(self) -> DeclaredRouting:
        """The Router's user_config. Raises InvalidConfig."""
        return declared_by(self.data["applications"])

    @property
    def policy(self) -> RoutingPolicy:
        """Who answers, once all applications run. Raises InvalidConfig."""
        return self.declared.resolved(self.running)

    @property
    def running(self) -> dict[str, set[int]]:
        """The versions of each model that have an application."""
        return versions_of(self.names)

    def has(self, model: str, version: int) -> bool:
        """Whether a version is deployed."""
        return application_name(model, version) in self.names

    def application(self, model: str, version: int) -> CommentedMap:
        """The application of a version, to read or to edit. Raises VersionNotFound."""
        name = application_name(model, version)
        for application in self.data["applications"]:
            if application["name"] == name:
                found: CommentedMap = application
                return found
        there = sorted(self.names - {"gateway"})
        raise VersionNotFound(f"{model} version {version} is not deployed; there are: {', '.join(there) or 'none'}")

    def model(self, model: str) -> ModelPolicy:
        """Who answers for a model. Raises ModelNotFound, InvalidConfig."""
        models = self.policy.models
        if model not in models:
            raise ModelNotFound(f"model {model!r} is not deployed; there are: {', '.join(models) or 'none'}")
        return models[model]

    def entry(self, model: str) -> CommentedMap:
        """What the Router's user_config says of a model, to edit; it names the champion. Raises ModelNotFound."""
        policy, models = self.model(model), self._models()
        models[model] = policy_entry.pinned(models[model], policy)
        found: CommentedMap = models[model]
        return found

    def store(self, model: str) -> Store:
        """The store of a model: its champion's. Raises ModelNotFound, VersionNotFound."""
        args = self.application(model, self.model(model).champion).get("args") or {}
        return Store(args.get("store", DEFAULT_ROOT))

    @property
    def gateway_store(self) -> Store:
        """Where the histories are, and models that nothing else is said of."""
        return Store(self.gateway_args.get("store", DEFAULT_ROOT))

    def history(self, model: str) -> History:
        """The decisions about a model, in the gateway's store: a model's own may be somebody else's tree."""
        return History(self.gateway_store, model)

    @property
    def gateway_args(self) -> Mapping[str, Any]:
        """Settings of the gateway. Raises InvalidConfig."""
        return self._gateway().get("args") or {}

    @property
    def monitoring(self) -> MonitoringSettings | None:
        """When drift is looked for and who is told; None where nothing says so. Raises InvalidConfig."""
        for application in self.data["applications"]:
            if application.get("import_path") == IMPORT_PATH:
                where = f"application {application['name']!r}, args"
                return validated(MonitoringSettings, _plain(application.get("args") or {}), where)
        return None

    def add_version(
        self, model: str, version: int, store: str, artifact: ArtifactKind | None, like: int | None = None
    ) -> None:
        """Add a version's application and the Router's entry.

        The first version of a model becomes its champion, a later one a challenger without traffic. Its replicas are
        set up like those of the version `like`. Raises Conflict where the version is there with another store or
        artifact.
        """
        models = self._models()
        if model not in models:
            models[model] = CommentedMap(champion=version)
        elif version not in self.model(model).versions:
            self.entry(model).setdefault("challengers", CommentedMap())[version] = 0.0
        self.add_application(model, version, store, artifact, like)

    def add_application(
        self, model: str, version: int, store: str, artifact: ArtifactKind | None = None, like: int | None = None
    ) -> None:
        """Add a version's application; the Router's entry stays. Raises Conflict as `add_version`."""
        name = application_name(model, version)
        added = _application(name, model, version, store, artifact)
        if like is not None:
            _set_up_like(added, self.application(model, like))
        there = next((app for app in self.data["applications"] if app["name"] == name), None)
        if there is None:
            self.data["applications"].append(added)
        elif any(there.get("args", {}).get(key) != value for key, value in added["args"].items()):
            raise Conflict(f"{model} version {version} is deployed with other args; undeploy it first to change them")

    def follow_latest(self, model: str) -> None:
        """Say of a model that is not there yet that its newest version is champion."""
        self._models().setdefault(model, CommentedMap(version_policy="latest"))

    def remove_application(self, model: str, version: int) -> None:
        """Remove a version's application; the Router's entry stays."""
        self._remove_applications(model, [version])

    def remove_version(self, model: str, version: int | None) -> None:
        """Remove a challenger, or a whole model where `version` is None.

        Raises ModelNotFound, VersionNotFound, or Conflict for a champion that has challengers.
        """
        models = self._models()
        if model not in models:
            raise ModelNotFound(f"model {model!r} is not deployed; there are: {', '.join(models) or 'none'}")
        policy = self.declared.models[model].resolved(self.running.get(model, ()))
        live = list(policy.versions) if policy is not None else []
        if version is not None and version not in live:
            raise VersionNotFound(f"{model} version {version} is not deployed; there are: {live}")
        if version is not None and version == live[0] and len(live) > 1:
            raise Conflict(
                f"{model} version {version} is the champion; undeploy its challengers first, or {model} whole"
            )
        if version is None or len(live) == 1:
            self._remove_model(model)
            self._remove_applications(model, live)
        else:
            policy_entry.remove(self.entry(model), version)
            self._remove_applications(model, [version])

    def with_routes_of(self, other: "ServeConfig") -> "ServeConfig":
        """Copy with the routes of another one: what runs between the steps of a change."""
        mixed = self.copy()
        mixed._router_entry()["user_config"] = copy.deepcopy(other.pinned()._router_entry().get("user_config"))
        return mixed

    def with_applications_of(self, other: "ServeConfig") -> "ServeConfig":
        """Copy with the applications of another one kept beside its own, and all champions named."""
        mixed = self.pinned()
        kept = [app for app in other.data["applications"] if app["name"] not in self.names]
        mixed.data["applications"].extend(copy.deepcopy(kept))
        return mixed

    def pinned(self) -> "ServeConfig":
        """Copy that names every champion, so that other applications do not change who answers."""
        made = self.copy()
        for model in set(made.declared.open_models) & made.policy.models.keys():
            made.entry(model)
        return made

    @property
    def names(self) -> set[str]:
        """Names of the applications."""
        return {application["name"] for application in self.data["applications"]}

    def _remove_model(self, model: str) -> None:
        user_config = self._router_entry()["user_config"]
        del user_config["models"][model]
        if user_config.get("default_model") == model:
            del user_config["default_model"]

    def _remove_applications(self, model: str, versions: list[int]) -> None:
        names = {application_name(model, version) for version in versions}
        applications = self.data["applications"]
        for index in reversed(range(len(applications))):
            if applications[index]["name"] in names:
                del applications[index]

    def _models(self) -> CommentedMap:
        entry = self._router_entry()
        if not entry.get("user_config"):
            entry["user_config"] = CommentedMap()
        models: CommentedMap = entry["user_config"].setdefault("models", CommentedMap())
        return models

    def _gateway(self) -> CommentedMap:
        found: CommentedMap = _gateway_of(self.data["applications"])
        return found

    def _router_entry(self) -> CommentedMap:
        found: CommentedMap = _router_entry_of(self.data["applications"])
        return found


def declared_by(applications: Iterable[Mapping[str, Any]]) -> DeclaredRouting:
    """The Router's user_config in some applications, of a file or of a service. Raises InvalidConfig."""
    return validated(DeclaredRouting, _router_entry_of(applications).get("user_config") or {}, "Router user_config")


def _gateway_of(applications: Iterable[Mapping[str, Any]]) -> Any:
    for application in applications:
        if application.get("import_path") == GATEWAY:
            return application
    raise InvalidConfig(f"no application with import_path {GATEWAY}")


def _router_entry_of(applications: Iterable[Mapping[str, Any]]) -> Any:
    for deployment in _gateway_of(applications).get("deployments") or []:
        if deployment.get("name") == "Router":
            return deployment
    raise InvalidConfig(f"the application with import_path {GATEWAY} has no deployment 'Router'")


def read_text(path: Path) -> str:
    """The text of a file. Raises InvalidConfig."""
    try:
        return path.read_text()
    except OSError as error:
        raise InvalidConfig(f"{path}: {error.strerror}") from None


def replace_text(path: Path, text: str) -> None:
    """Replace a file in one step, through links and with its mode: its readers see the old text or the new one.

    Raises InvalidConfig where it cannot be written.
    """
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise InvalidConfig(f"{path} cannot be written: {error.strerror}") from None


def validated(kind: type[T], value: Any, where: str) -> T:
    """Validate, naming the first field that is wrong. Raises InvalidConfig."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise InvalidConfig(f"{where}: {first_fault(error)}") from None


def _application(name: str, model: str, version: int, store: str, artifact: ArtifactKind | None) -> CommentedMap:
    arguments = CommentedMap(model=model, version=version, store=store)
    if artifact is not None:
        arguments["artifact"] = artifact
    return CommentedMap(name=name, route_prefix=None, import_path=MODEL_VERSION, args=arguments)


def _set_up_like(added: CommentedMap, other: Mapping[str, Any]) -> None:
    """Give an application another one's settings, but for what it serves."""
    for key, value in (other.get("args") or {}).items():
        if key != "artifact":
            added["args"].setdefault(key, value)
    entries = [CommentedMap(entry) for entry in _plain(other.get("deployments") or [])]
    for entry in entries:
        for key, value in entry.items():
            if isinstance(value, dict):
                entry[key] = CommentedMap(value)
                entry[key].fa.set_flow_style()
    if entries:
        added["deployments"] = entries


def _plain(value: Any) -> Any:
    """Plain copies, without comments."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


@lru_cache(maxsize=8)
def _content(text: str) -> dict[str, Any]:
    """What a text says; the same few are asked for again and again in the course of a change."""
    content = YAML(typ="safe").load(text)
    assert isinstance(content, dict)
    return content


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    return yaml
