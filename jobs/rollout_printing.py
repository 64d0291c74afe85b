"""What the commands print of rollouts."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from jobs.comparison import parse_checks
from jobs.guard_words import estimate, guard_words
from jobs.printing import out, percent
from jobs.rollout_status import ModelStatus, Part, VersionStatus
from models.rollout import Event


def print_parts(before: Sequence[Part], after: Sequence[Part]) -> None:
    """Print who answered and who answers, version by version."""
    was, will = ({part.version: part for part in each} for each in (before, after))
    table = Table(Column("version", justify="right"), "before", "after")
    for version in sorted({*was, *will}):
        ends = [_part(each.get(version)) for each in (was, will)]
        table.add_row(str(version), *ends, style="bold" if ends[0] != ends[1] else None)
    out.print(table)


def _part(part: Part | None) -> str:
    if part is None:
        return "not loaded"
    of = "copies of " if part.variant == "shadow" else ""
    text = f"{part.variant}, {of}{percent(part.share)}"
    if part.variant != "champion" and part.share != part.declared:
        text += f" on the way to {percent(part.declared)}" if part.stopped_because is None else ", stopped"
    return text


def print_plan(loaded: Sequence[int], unloaded: Sequence[int], needed_bytes: int, available_bytes: int) -> None:
    """Print which versions start and stop, and whether there is memory for them."""
    for what, versions in (("Loaded", loaded), ("Unloaded", unloaded)):
        out.print(f"{what}: {', '.join(f'version {version}' for version in versions) or 'nothing'}.")
    if loaded:
        needed, free = (f"{number / 1024**2:,.0f} MiB" for number in (needed_bytes, available_bytes))
        out.print(f"Memory: about {needed} are needed (an estimate), {free} are free on this machine.")
        if needed_bytes > available_bytes:
            out.print("[yellow]That is more than there is.[/]")


def print_status(statuses: Iterable[ModelStatus]) -> None:
    """Print a table per model."""
    for status in statuses:
        out.print(_status_table(status))
        if status.applied is False:
            out.print("The file was edited since it was applied: what runs was told something else.")
            out.print("`tiltyard apply` makes it true.")
        for each in status.versions:
            if each.part.stopped_because is not None:
                out.print(f"Version {each.part.version} was stopped: {each.part.stopped_because}", markup=False)
            if because := (each.measured.get("verdict") or {}).get("because"):
                out.print(f"Version {each.part.version}: {because}", markup=False, soft_wrap=True)


def _status_table(status: ModelStatus) -> Table:
    """A row per version, or a column per version where the terminal is too narrow for that."""
    rows = [_status_row(version) for version in status.versions]
    shown = _filled(rows)
    table = _titled(status)
    for index in shown:
        table.add_column(_STATUS[index], justify="left" if _STATUS[index] in _WORDS else "right")
    for row in rows:
        table.add_row(*(row[index] for index in shown))
    if out.measure(table, options=out.options.update(width=MOST_COLUMNS)).maximum <= out.width:
        return table
    first, *others = shown
    upright = _titled(status)
    for heading in (_STATUS[first], *(row[first] for row in rows)):
        upright.add_column(heading)
    for index in others:
        upright.add_row(_STATUS[index], *(row[index] for row in rows))
    return upright


def _filled(rows: Sequence[tuple[str, ...]]) -> list[int]:
    """The columns in which anything stands."""
    return [index for index, cells in enumerate(zip(*rows, strict=True)) if any(cells)]


def _titled(status: ModelStatus) -> Table:
    return Table(title=status.model, title_justify="left", title_style="bold")


ROOMY = 100
"""A terminal of so many columns has room for the date and the time of a decision on one line."""

MOST_COLUMNS = 1000
"""More than any table of versions is wide."""

_STATUS = (
    *("version", "part", "declared", "now", "runs"),
    *("requests", "failed", "p50, ms", "p99, ms", "breaker", "verdict"),
)
_WORDS = ("part", "runs", "breaker", "verdict")


def _status_row(status: VersionStatus) -> tuple[str, ...]:
    part, measured = status.part, status.measured
    numbers = measured.get("statistics") or {}
    runs = "no" if status.application is None else f"{status.application.lower()}, {_count(status.replicas)}"
    return (
        str(part.version),
        part.variant,
        percent(part.declared),
        percent(measured.get("share", part.share)),
        runs,
        _number(numbers.get("requests")),
        _number(numbers.get("failed")),
        _number(numbers.get("p50_ms")),
        _number(numbers.get("p99_ms")),
        str(measured.get("breaker") or ""),
        str((measured.get("verdict") or {}).get("decision") or ""),
    )


def _count(replicas: int | None) -> str:
    return f"{replicas} replica{'' if replicas == 1 else 's'}"


def _number(value: Any) -> str:
    return f"{value:,.3g}" if isinstance(value, float) else "" if value is None else f"{value:,}"


def print_history(events: Sequence[Event]) -> None:
    """Print the decisions, oldest first."""
    rows = [_past(event) for event in events]
    time, version = Column("time, UTC", no_wrap=True), Column("version", justify="right")
    headings = (time, "who", "what", version, "share", "because", "numbers")
    shown = _filled(rows)
    table = Table(*(headings[index] for index in shown))
    for row in rows:
        table.add_row(*(escape(row[index]) for index in shown))
    out.print(table)


def _past(event: Event) -> tuple[str, ...]:
    what = event.action + (f" (champion {event.champion})" if event.champion is not None else "")
    time = event.time.strftime("%Y-%m-%d %H:%M:%S" if out.width >= ROOMY else "%Y-%m-%d\n%H:%M:%S")
    return (time, event.by, what, str(event.version), percent(event.share), event.because, _evidence(event))


def _evidence(event: Event) -> str:
    """The numbers that a decision rests on: of a verdict a line for each guard, else what is not said beside it."""
    if "checks" in event.evidence:
        checks = (each for each in parse_checks(event.evidence["checks"]) if each.loss is not None)
        return "\n".join(f"{guard_words(each.name).about}: {estimate(each)}" for each in checks)
    said = {"model", "version", "because", "words", "created"}
    numbers = {name: value for name, value in event.evidence.items() if name not in said and value is not None}
    return ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in numbers.items())


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {_plain(each)}" for name, each in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
