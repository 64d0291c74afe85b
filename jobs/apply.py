"""Plan of `tiltyard apply`: what a person wrote into serve_config.yaml, held against what runs, and made true."""

import difflib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from jobs.author import Author
from jobs.change import check_recordable, make_true, record, restarting, undone_by
from jobs.compatibility import check_stand_ins
from jobs.config_check import check
from jobs.serve_config import GATEWAY, ServeConfig
from jobs.service import Service, configurations_of
from models.errors import Conflict, InvalidConfig, TiltyardError
from models.policy import ModelPolicy
from models.rollout import Action, Event


@dataclass(frozen=True, slots=True)
class Application:
    """What a file makes of a service.

    Names of applications, and what Ray Serve says of those that run; the events for each model's history; the diff from
    what runs to the file.
    """

    running: ServeConfig
    applications: Mapping[str, Mapping[str, Any]]
    config: ServeConfig
    started: tuple[str, ...]
    restarted: tuple[str, ...]
    ended: tuple[str, ...]
    events: Mapping[str, Sequence[Event]]
    diff: str


def plan_apply(path: Path, service: Service, author: Author) -> Application:
    """Check a file as a whole, and tell what it would change. Raises InvalidConfig, Conflict, ServiceError."""
    config = ServeConfig.read(path)
    check_all(config)
    applications = service.details()["applications"]
    told = {name: declared for name, declared in configurations_of(applications).items() if declared}
    if GATEWAY not in {application.get("import_path") for application in told.values()}:
        raise Conflict(f"no gateway runs there that could be told; `serve deploy {path}` starts one")
    running = config.with_applications(told.values())
    try:
        before = running.policy
    except InvalidConfig:  # the Routers refused it, and go by one that nobody can ask for
        running = running.with_routes_of(config)
        before = config.policy
    after = config.policy
    events = {
        model: events_between(author, model, before.models.get(model), after.models.get(model))
        for model in sorted(before.models.keys() | after.models.keys())
    }
    declared = {application["name"]: application for application in config.plain()["applications"]}
    return Application(
        running,
        applications,
        config,
        tuple(sorted(config.names - running.names)),
        tuple(name for name in sorted(config.names & running.names) if restarting(told[name], declared[name])),
        tuple(sorted(running.names - config.names)),
        {model: made for model, made in events.items() if made},
        _diff(told, declared, path.name),
    )


def check_all(config: ServeConfig) -> None:
    """Check a file, and hold all who are sent a champion's requests against it. Raises InvalidConfig, Conflict."""
    check(config)
    for model, policy in config.policy.models.items():
        check_stand_ins(config.store(model), model, policy)


def carry_out_apply(plan: Application, service: Service, timeout_s: float, report: Callable[[str], None]) -> None:
    """Make the file true and record it; what goes wrong leaves what runs as it was. Raises DeployFailed, Conflict."""
    for model in plan.events:
        check_recordable(plan.config, model)
    answering = {model: _new(plan, model) for model in plan.config.policy.models}
    more = (*plan.started, *plan.restarted)
    with undone_by(lambda: _undo(plan, service)):
        make_true(plan.running, plan.config, plan.applications, answering, service, timeout_s, report, more)
    for model, events in plan.events.items():
        record(plan.config, model, events)


def _undo(plan: Application, service: Service) -> str:
    try:
        service.apply(plan.running.plain())
    except TiltyardError as error:
        return f"What runs is not as before: {error}"
    return "What runs is as before"


def _new(plan: Application, model: str) -> tuple[int, ...]:
    return tuple(v for v in plan.config.policy.models[model].versions if not plan.running.has(model, v))


def events_between(
    author: Author, model: str, before: ModelPolicy | None, after: ModelPolicy | None
) -> tuple[Event, ...]:
    """What the history says of a policy that was edited by hand: an event for each version whose part changed."""
    was, is_now = (policy.parts if policy is not None else {} for policy in (before, after))
    events = []
    for version, (variant, share) in is_now.items():
        if was.get(version) == (variant, share):
            continue
        if before is None or after is None:
            champion = version if variant == "champion" else None
            events.append(author.event(model, version, "deploy", share=share, champion=champion))
        elif variant == "champion":
            if before.champion != version:
                evidence = {"former_champion": before.champion}
                events.append(author.event(model, version, "promote", champion=version, evidence=evidence))
        elif share or version != before.champion:  # a former champion that stays warm is no challenger
            had = was.get(version, ("", 0.0))[0]
            action: Action = "shadow" if variant == "shadow" else "weights" if had == variant else "challenge"
            events.append(author.event(model, version, action, share=share))
    gone: Action = "undeploy" if after is None else "retire"
    events += [author.event(model, version, gone) for version in was.keys() - is_now.keys()]
    return tuple(events)


def _diff(told: Mapping[str, Mapping[str, Any]], declared: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """What runs against the file, in one order; empty where they say the same."""
    before, after = (_lines({key: each[key] for key in sorted(each)}) for each in (told, declared))
    return "".join(difflib.unified_diff(before, after, "what runs", name))


def _lines(applications: Mapping[str, Mapping[str, Any]]) -> list[str]:
    buffer = io.StringIO()
    plain = json.loads(json.dumps(list(applications.values())))  # in which the service tells its own
    YAML(typ="safe").dump(plain, buffer)
    return buffer.getvalue().splitlines(keepends=True)
