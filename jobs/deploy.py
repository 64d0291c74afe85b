"""`tiltyard deploy` and `undeploy`: edit serve_config.yaml, apply it to what runs, wait until it is true."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.serve_config import ServeConfig, check, replace_text
from jobs.service import Service
from models.errors import Conflict, DeployFailed, InvalidRequest, ServiceNotRunning, TiltyardError
from models.locking import locked
from models.manifest import ArtifactKind, Manifest
from models.policy import application_name
from models.store import DEFAULT_ROOT, Store

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Change:
    """A serve_config.yaml before and after."""

    path: Path
    before: ServeConfig
    after: ServeConfig

    @property
    def diff(self) -> str:
        """Unified diff of the file; empty where nothing changes."""
        return self.before.diff(self.after, self.path.name)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other commands from changing the file meanwhile. Raises Conflict where one does already."""
    with ExitStack() as held:
        try:
            held.enter_context(locked(path.resolve().parent, wait=False))
        except BlockingIOError:
            raise Conflict(f"another command is changing {path.name}; try again when it is done") from None
        yield


def plan_deploy(path: Path, store: Store, model: str, version: int, artifact: ArtifactKind | None) -> Change:
    """Plan to serve a published version. Raises VersionNotFound, InvalidRequest, InvalidConfig, Conflict."""
    _check_artifact(store.manifest(model, version), artifact)
    before = ServeConfig.read(path)
    after = before.copy()
    after.add_version(model, version, _portable(store.root), artifact)
    check(after)
    return Change(path, before, after)


def _check_artifact(manifest: Manifest | None, wanted: ArtifactKind | None) -> None:
    if manifest is None or wanted is None or wanted in {artifact.kind for artifact in manifest.artifacts}:
        return
    there = ", ".join(artifact.kind for artifact in manifest.artifacts)
    why = "".join(f" ({left.why})" for left in manifest.left_out if left.kind == wanted)
    raise InvalidRequest(
        f"{manifest.model} version {manifest.version} has no artifact {wanted}{why}; there is: {there}"
    )


def plan_undeploy(path: Path, model: str, version: int | None) -> Change:
    """Plan to stop serving a version, or a whole model. Raises ModelNotFound, VersionNotFound, Conflict."""
    before = ServeConfig.read(path)
    after = before.copy()
    after.remove_version(model, version)
    check(after)
    return Change(path, before, after)


def deploy(change: Change, service: Service | None, model: str, version: int, timeout_s: float, report: Report) -> None:
    """Write the file and make it true: the version first, then its route, so health never sees a gap.

    A version that does not start changes nothing: the file and what runs are as before. Raises DeployFailed,
    Conflict.
    """
    with _written(change, service):
        if service is not None:
            service.apply(change.after.with_routes_of(change.before).plain())
            service.wait_until_running(application_name(model, version), timeout_s, report)
            service.apply(change.after.plain())
            service.wait_until_answering(model, version, timeout_s)


def undeploy(change: Change, service: Service | None, timeout_s: float) -> None:
    """Write the file and make it true: the route goes first, then the version. Raises DeployFailed, Conflict."""
    with _written(change, service):
        if service is not None:
            service.apply(change.after.with_applications_of(change.before).plain())
            service.wait_until_running("gateway", timeout_s, lambda _: None)
            service.apply(change.after.plain())
            for name in change.before.names - change.after.names:
                service.wait_until_gone(name, timeout_s)


def write(change: Change) -> None:
    """Write the file; what runs stays as it is. Raises Conflict."""
    with _written(change, None):
        pass


def running_service(address: str) -> Service | None:
    """The service at a dashboard address, or None where none runs. Raises ServiceError."""
    try:
        return Service(address)
    except ServiceNotRunning:
        return None


@contextmanager
def _written(change: Change, service: Service | None) -> Iterator[None]:
    """Write the file; whatever goes wrong afterwards, Ctrl-C too, makes the file and what runs what they were."""
    if ServeConfig.read(change.path).original != change.before.original:
        raise Conflict(f"{change.path.name} was changed by somebody else meanwhile; look at it and try again")
    if service is not None:
        _check_nothing_else_changes(change.before, service)
    replace_text(change.path, change.after.text)
    try:
        yield
    except BaseException as error:
        replace_text(change.path, change.before.original)
        undone = _undo(change, service)
        if isinstance(error, TiltyardError):
            raise DeployFailed(f"{error}. {change.path.name} is as before, {undone}") from error
        raise


def _undo(change: Change, service: Service | None) -> str:
    try:
        if service is not None:
            service.apply(change.before.plain())
    except TiltyardError as error:
        return f"but what runs is not: {error}"
    return "and so is what runs"


def _check_nothing_else_changes(before: ServeConfig, service: Service) -> None:
    """Refuse to apply edits that were made by hand, and so restart or remove what the person did not name."""
    declared = {application["name"]: application for application in before.plain()["applications"]}
    for name, running in service.declared().items():
        if name not in declared:
            raise Conflict(f"{name} runs, but is not in the file, so it would be removed; run `serve deploy` first")
        for key in ("import_path", "args", "runtime_env"):
            if (running.get(key) or {}) != (declared[name].get(key) or {}):
                raise Conflict(
                    f"{name} runs with another {key} than the file says, so it would restart; run `serve deploy` first"
                )


def _portable(root: Path) -> str:
    """A store's path as serve_config.yaml holds it: relative to the project where it lies inside of it."""
    project = DEFAULT_ROOT.parents[1]
    return str(root.relative_to(project)) if root.is_relative_to(project) else str(root)
