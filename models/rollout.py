"""Where a rollout stands, and how it came there: an append-only history per model, from which the state is read."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.append_only import append_lines, read_lines
from models.locking import locked
from models.policy import ModelPolicy
from models.store import Store, check_name

HISTORY = "history.jsonl"

Action = Literal[
    "deploy",
    "challenge",
    "shadow",
    "ramp",
    "rollback",
    "promote",
    "retire",
    "weights",
    "undeploy",
    "drift",
    "on_critical",
]
"""`drift` says that a version's traffic or answers changed, `on_critical` that a command was run for it."""

OBSERVATIONS: frozenset[Action] = frozenset({"drift", "on_critical"})
"""What changes nobody's share."""

BEFORE_ANY_EVENT = datetime.fromtimestamp(0, UTC)
"""Since when a version stands as it does where no event says it."""


class Event(BaseModel):
    """One decision: who made it (`referee`, `operator`), about which version, why, and on which numbers.

    `share` is the part of the traffic that the version has from now on (of a shadow: the share of copies).
    `champion` is who answers by default from now on, where that changed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: datetime = Field(default_factory=lambda: datetime.now(UTC))
    model: str
    version: int
    action: Action
    by: str
    share: float | None = None
    champion: int | None = None
    because: str = ""
    evidence: dict[str, Any] = {}


class Standing(BaseModel):
    """Where one challenger or shadow stands: its share now, since when, and why it was stopped, if it was."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float
    since: datetime
    stopped_because: str | None = None


class History:
    """The decisions about one model, in `<store>/<model>/history.jsonl`: one JSON object a line, only ever appended."""

    def __init__(self, store: Store, model: str) -> None:
        self.path = store.root / check_name(model) / HISTORY

    def append(self, *events: Event) -> None:
        """Write events and flush them to disk before returning."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.parent):
            append_lines(self.path, (event.model_dump_json() for event in events))

    def events(self) -> list[Event]:
        """All that were written whole, oldest first; a line that a crash tore is left out."""
        return list(self._read())

    def _read(self) -> Iterator[Event]:
        for line in read_lines(self.path):
            try:
                yield Event.model_validate(json.loads(line))
            except (ValueError, ValidationError):
                continue


def standings(events: Iterable[Event], policy: ModelPolicy) -> dict[int, Standing]:
    """Where each challenger and shadow of a policy stands.

    Without a ramp, and for shadows, that is what the policy says, unless it was stopped since it was last set. With
    one, a challenger begins at the first step and goes on as the referee's events say, up to its weight.
    """
    found: dict[int, Standing] = {}
    declared = {**policy.challengers, **policy.shadows}
    last: dict[int, Event] = {}
    for event in events:
        if event.action in ("challenge", "shadow", "weights", "ramp", "rollback"):
            last[event.version] = event
        elif event.action in ("promote", "retire", "undeploy"):
            last.pop(event.version, None)
    for version, weight in declared.items():
        newest = last.get(version)
        since = newest.time if newest else BEFORE_ANY_EVENT
        if newest is not None and newest.action == "rollback":
            found[version] = Standing(share=0.0, since=since, stopped_because=newest.because)
        elif newest is not None and newest.action == "ramp" and newest.share is not None and _climbs(policy, version):
            found[version] = Standing(share=min(weight, newest.share), since=since)
        else:
            found[version] = Standing(share=first_share(policy, version), since=since)
    return found


def newest_decision(events: Sequence[Event], version: int) -> Event | None:
    """The last that was decided about a version; None where nothing was."""
    decisions = (event for event in reversed(events) if event.action not in OBSERVATIONS)
    return next((event for event in decisions if event.version == version), None)


def _climbs(policy: ModelPolicy, version: int) -> bool:
    """Whether a ramp, which somebody may have taken out of the policy meanwhile, holds a version back."""
    return policy.ramp is not None and version in policy.challengers


def first_share(policy: ModelPolicy, version: int) -> float:
    """The share that a version begins with: its own, or the ramp's first step."""
    if version in policy.shadows:
        return policy.shadows[version]
    weight = policy.challengers[version]
    return weight if policy.ramp is None else min(weight, policy.ramp.steps[0])


def next_share(policy: ModelPolicy, version: int, share: float) -> float | None:
    """The share of the next step, up to the version's weight; None where it is reached."""
    weight = policy.challengers.get(version)
    if policy.ramp is None or weight is None or share >= weight:
        return None
    return min(weight, next((step for step in policy.ramp.steps if step > share), weight))
