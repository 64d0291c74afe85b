"""A change of serve_config.yaml, carried out: written, applied to what runs, waited for, recorded, or undone."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jobs.serve_config import ServeConfig, read_text, replace_text
from jobs.service import Service
from models.errors import Busy, Conflict, DeployFailed, ServiceNotRunning, TiltyardError
from models.locking import locked
from models.policy import ModelPolicy, application_name
from models.rollout import Event, History, standings

logger = logging.getLogger(__name__)

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Change:
    """A serve_config.yaml before and after, for one model.

    The versions in `answering` must be able to answer before any route changes. `events` go to the model's history
    once the change is true.
    """

    path: Path
    before: ServeConfig
    after: ServeConfig
    model: str = ""
    answering: tuple[int, ...] = ()
    events: tuple[Event, ...] = ()

    @property
    def diff(self) -> str:
        """Unified diff of the file; empty where nothing changes."""
        return self.before.diff(self.after, self.path.name)

    @property
    def loaded(self) -> tuple[int, ...]:
        """Versions that start to run."""
        return _versions_of(self.after, self.before, self.model)

    @property
    def unloaded(self) -> tuple[int, ...]:
        """Versions that no longer run."""
        return _versions_of(self.before, self.after, self.model)

    @property
    def history(self) -> History:
        """Where its events go."""
        return self.after.history(self.model)


def _versions_of(config: ServeConfig, other: ServeConfig, model: str) -> tuple[int, ...]:
    policy = config.policy.models.get(model)
    return tuple(v for v in sorted(policy.versions) if not other.has(model, v)) if policy else ()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other commands from changing the file meanwhile. Raises Busy where one does already."""
    with ExitStack() as held:
        try:
            held.enter_context(locked(path.resolve().parent, wait=False))
        except BlockingIOError:
            raise Busy(f"another command is changing {path.name}; try again when it is done") from None
        yield


def running_service(address: str) -> Service | None:
    """The service at a dashboard address, or None where none runs. Raises ServiceError."""
    try:
        return Service(address)
    except ServiceNotRunning:
        return None


def carry_out(change: Change, service: Service | None, timeout_s: float, report: Report) -> None:
    """Write the file, make it true where a service runs, and record it.

    What goes wrong leaves the file and what runs as they were, and nothing is recorded. Raises DeployFailed, Conflict.
    """
    with _written(change, service):
        if service is not None:
            _make_true(change, service, timeout_s, report)
        _record(change)


def write(change: Change) -> None:
    """Write the file; what runs stays as it is. Raises Conflict."""
    with _written(change, None):
        pass


def _make_true(change: Change, service: Service, timeout_s: float, report: Report) -> None:
    """New versions run before a route leads to them, and routes go before their versions do: no request finds a gap."""
    before, after = change.before, change.after
    between = after.with_applications_of(before)
    if after.names - service.declared().keys():
        service.apply(between.with_routes_of(before).plain())
    for version in change.answering:
        service.wait_until_running(application_name(change.model, version), timeout_s, report)
    report("the Routers are told")
    service.apply(between.plain())
    service.wait_until_running("gateway", timeout_s, report)
    policy = after.policy.models.get(change.model)
    if policy is not None:
        history = change.history
        service.wait_until_obeyed(
            change.model, policy, change.answering, lambda: _certain(history.events(), policy), timeout_s
        )
    if before.names - after.names or after.declared.open_models:  # whose champions were named until now
        service.apply(after.plain())
        for name in before.names - after.names:
            report(f"{name} answers what it has, and ends")
            service.wait_until_gone(name, timeout_s)


def _certain(events: Sequence[Event], policy: ModelPolicy) -> set[int]:
    """The challengers whose share is what the file says: no ramp holds it back, and nobody stopped them."""
    if policy.ramp is not None:
        return set()
    stand = standings(events, policy)
    return {version for version in policy.challengers if stand[version].stopped_because is None}


def _record(change: Change) -> None:
    """Append the events. A store that cannot be written serves, but no rollout goes without its history."""
    now = datetime.now(UTC)
    try:
        if change.events:
            change.history.append(*(event.model_copy(update={"time": now}) for event in change.events))
    except OSError as error:
        why = f"the history of {change.model} cannot be written: {error.strerror}"
        if not {event.action for event in change.events} <= {"deploy", "undeploy"}:
            raise Conflict(why) from None
        logger.warning(why)


@contextmanager
def _written(change: Change, service: Service | None) -> Iterator[None]:
    """Write the file; whatever goes wrong afterwards, Ctrl-C too, makes the file and what runs what they were."""
    if read_text(change.path) != change.before.original:
        raise Conflict(f"{change.path.name} was changed by somebody else meanwhile; look at it and try again")
    if service is not None:
        _check_nothing_else_changes(change.before, service)
    if change.diff:
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
