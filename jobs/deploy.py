"""`tiltyard deploy` and `undeploy`: edit serve_config.yaml, apply it to what runs, wait until it is true."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobs.serve_config import ServeConfig, check
from jobs.service import DeployFailed, Service, ServiceNotRunning
from models.errors import Conflict, TiltyardError
from models.manifest import ArtifactKind
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

    def write(self) -> None:
        """Write the file. Raises Conflict where somebody else has changed it since it was read."""
        if ServeConfig.read(self.path).text != self.before.text:
            raise Conflict(f"{self.path.name} was changed by somebody else meanwhile; look at it and try again")
        self.after.write(self.path)

    def undo(self, service: Service) -> None:
        """Make the file and what runs what they were."""
        self.before.write(self.path)
        service.apply(self.before.plain())


def plan_deploy(path: Path, store: Store, model: str, version: int, artifact: ArtifactKind | None) -> Change:
    """Plan to serve a published version. Raises VersionNotFound, InvalidConfig."""
    store.directory(model, version)
    before = ServeConfig.read(path)
    after = before.copy()
    after.add_version(model, version, _portable(store.root), artifact)
    check(after)
    return Change(path, before, after)


def plan_undeploy(path: Path, model: str, version: int | None) -> Change:
    """Plan to stop serving a version, or a whole model. Raises ModelNotFound, VersionNotFound, Conflict."""
    before = ServeConfig.read(path)
    after = before.copy()
    after.remove_version(model, version)
    check(after)
    return Change(path, before, after)


def deploy(change: Change, service: Service | None, model: str, version: int, timeout_s: float, report: Report) -> None:
    """Write the file and make it true: the version first, then its route, so health never sees a gap.

    A version that does not start changes nothing: the file and what runs are as before. Raises DeployFailed.
    """
    change.write()
    if service is None:
        return
    try:
        service.apply(change.after.with_routes_of(change.before).plain())
        service.wait_until_running(application_name(model, version), timeout_s, report)
        service.apply(change.after.plain())
        service.wait_until_answering(model, version, timeout_s)
    except KeyboardInterrupt:
        change.undo(service)
        raise
    except TiltyardError as error:
        change.undo(service)
        raise DeployFailed(f"{error}. {change.path.name} and what runs are as before") from error


def undeploy(change: Change, service: Service | None, timeout_s: float) -> None:
    """Write the file and make it true: the route goes first, then the version. Raises DeployFailed."""
    change.write()
    if service is None:
        return
    service.apply(change.after.with_applications_of(change.before).plain())
    service.wait_until_running("gateway", timeout_s, lambda _: None)
    service.apply(change.after.plain())
    removed = {app["name"] for app in change.before.data["applications"]} - {
        app["name"] for app in change.after.data["applications"]
    }
    for name in removed:
        service.wait_until_gone(name, timeout_s)


def running_service(address: str) -> Service | None:
    """The service at a dashboard address, or None where none runs."""
    try:
        return Service(address)
    except ServiceNotRunning:
        return None


def _portable(root: Path) -> str:
    """A store's path as serve_config.yaml holds it: relative to the project where it lies inside of it."""
    project = DEFAULT_ROOT.parents[1]
    return str(root.relative_to(project)) if root.is_relative_to(project) else str(root)
