"""A change of serve_config.yaml, carried out: written, applied to what runs, waited for, recorded, or undone."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from jobs.serve_config import ServeConfig, declared_by, read_text, replace_text
from jobs.service import Service, configurations_of
from models.errors import Busy, Conflict, DeployFailed, InvalidConfig, ServiceNotRunning, TiltyardError
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


def _versions_of(config: ServeConfig, other: ServeConfig, model: str) -> tuple[int, ...]:
    policy = config.policy.models.get(model)
    return tuple(v for v in sorted(policy.versions) if not other.has(model, v)) if policy else ()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other commands from changing the file meanwhile. Raises Busy where one does already, InvalidConfig."""
    with ExitStack() as held:
        try:
            held.enter_context(locked(path.resolve().parent, wait=False))
        except BlockingIOError:
            raise Busy(f"another command is changing {path.name}; try again when it is done") from None
        except OSError as error:
            raise InvalidConfig(f"{path}: {error.strerror}") from None
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
    with _written(change, service) as applications:
        if service is not None:
            answering = {change.model: change.answering} if change.model else {}
            make_true(change.before, change.after, applications, answering, service, timeout_s, report)
        record(change.after, change.model, change.events)


def write(change: Change) -> None:
    """Write the file; what runs stays as it is. Raises Conflict."""
    with _written(change, None):
        pass


def make_true(
    before: ServeConfig,
    after: ServeConfig,
    applications: Mapping[str, Mapping[str, Any]],
    answering: Mapping[str, Collection[int]],
    service: Service,
    timeout_s: float,
    report: Report,
    more: Collection[str] = (),
) -> None:
    """Have a service that runs one file run another. Raises DeployFailed.

    `applications` is what Ray Serve says of those that run, `answering` the versions that must answer of the models
    that change, `more` the applications that must run besides. New versions run before a route leads to them, and
    routes go before their versions do: no request finds a gap.
    """
    between = after.with_applications_of(before)
    if after.names - applications.keys():
        service.apply(between.with_routes_of(before).plain())
    for name in (application_name(model, each) for model, versions in answering.items() for each in versions):
        if name not in applications or applications[name]["status"] != "RUNNING":
            service.wait_until_running(name, timeout_s, report)
    report("the Routers are told")
    service.apply(between.plain())
    obeyed = {model: policy for model, policy in after.policy.models.items() if model in answering}
    for model, policy in obeyed.items():
        certain = partial(_certain, after.history(model), policy)
        service.wait_until_obeyed(model, policy, answering[model], certain, timeout_s)
    for name in more if obeyed else ("gateway", *more):
        service.wait_until_running(name, timeout_s, report)
    if before.names - after.names or after.declared.open_models:  # whose champions were named until now
        service.apply(after.plain())
        for name in before.names - after.names:
            report(f"{name} answers what it has, and ends")
            service.wait_until_gone(name, timeout_s)


def _certain(history: History, policy: ModelPolicy) -> set[int]:
    """The challengers whose share is what the file says: no ramp holds it back, and nobody stopped them."""
    if policy.ramp is not None:
        return set()
    stand = standings(history.events(), policy)
    return {version for version in policy.challengers if stand[version].stopped_because is None}


def check_recordable(config: ServeConfig, model: str) -> None:
    """Refuse to decide what cannot be recorded. Raises Conflict."""
    try:
        config.history(model).append()
    except OSError as error:
        raise _unwritable(model, error) from None


def record(config: ServeConfig, model: str, events: Sequence[Event]) -> None:
    """Append the events. A store that cannot be written serves, but no rollout goes without its history.

    Raises Conflict.
    """
    now = datetime.now(UTC)
    try:
        if events:
            config.history(model).append(*(event.model_copy(update={"time": now}) for event in events))
    except OSError as error:
        refusal = _unwritable(model, error)
        if not {event.action for event in events} <= {"deploy", "undeploy"}:
            raise refusal from None
        logger.warning(refusal.message)


def _unwritable(model: str, error: OSError) -> Conflict:
    return Conflict(f"the history of {model} cannot be written: {error.strerror}")


@contextmanager
def _written(change: Change, service: Service | None) -> Iterator[Mapping[str, Mapping[str, Any]]]:
    """Write the file; whatever goes wrong afterwards, Ctrl-C too, makes the file and what runs what they were.

    Gives what Ray Serve says of each application. Raises Conflict.
    """
    if read_text(change.path) != change.before.original:
        raise Conflict(f"{change.path.name} was changed by somebody else meanwhile; look at it and try again")
    applications = service.details()["applications"] if service is not None else {}
    _check_nothing_else_changes(change.before, configurations_of(applications))
    if change.diff:
        replace_text(change.path, change.after.text)
    with undone_by(lambda: _undo(change, service)):
        yield applications


@contextmanager
def undone_by(undo: Callable[[], str]) -> Iterator[None]:
    """Undo what goes wrong in the block, whatever it is, and say what came of it. Raises DeployFailed."""
    try:
        yield
    except BaseException as error:
        undone = undo()
        if isinstance(error, TiltyardError):
            raise DeployFailed(f"{error}. {undone}") from error
        raise


def _undo(change: Change, service: Service | None) -> str:
    """Make the file and what runs what they were, the one where the other cannot be; say what came of it."""
    file = change.path.name
    wrong = []
    try:
        replace_text(change.path, change.before.original)
    except TiltyardError as error:
        wrong.append(f"{file} is not as before: {error}")
    try:
        if service is not None:
            service.apply(change.before.plain())
    except TiltyardError as error:
        wrong.append(f"what runs is not as before: {error}")
    return "; ".join(wrong) if wrong else f"{file} is as before, and so is what runs"


def _check_nothing_else_changes(before: ServeConfig, running: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to apply edits that were made by hand, and so change what the person did not name. Raises Conflict."""
    declared = {application["name"]: application for application in before.plain()["applications"]}
    for name, application in running.items():
        if name not in declared:
            raise Conflict(f"{name} runs, but is not in the file, so it would be removed; {TO_APPLY}")
        if keys := restarting(application, declared[name]):
            raise Conflict(f"{name} runs with another {keys[0]} than the file says, so it would restart; {TO_APPLY}")
    if other := told_otherwise(before, running):
        raise Conflict(f"the Routers were told something else of {other} than the file says; {TO_APPLY}")


TO_APPLY = "`tiltyard apply --dry-run` shows all that differs, `tiltyard apply` makes the file true"


def restarting(running: Mapping[str, Any], declared: Mapping[str, Any]) -> list[str]:
    """What an application cannot be given without a restart, as far as it differs."""
    return [
        key for key in ("import_path", "args", "runtime_env") if (running.get(key) or {}) != (declared.get(key) or {})
    ]


def told_otherwise(config: ServeConfig, running: Mapping[str, Mapping[str, Any]]) -> str | None:
    """A model of which the Routers that run were told something else than a file says; None where there is none."""
    try:
        told = declared_by(running.values())
    except InvalidConfig:  # there is no gateway yet, or one of another time
        return None
    declared = config.declared
    names = sorted(declared.models.keys() | told.models.keys())
    different = (f"model {name!r}" for name in names if told.models.get(name) != declared.models.get(name))
    return next(different, "the default model" if told.default_model != declared.default_model else None)
