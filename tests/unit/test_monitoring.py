"""When drift is looked for: the settings, the schedule without Ray, and runs as real processes."""

import asyncio
import json
import os
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments import monitoring
from deployments.drift_diary import DriftDiary
from deployments.drift_task import DriftRun, Outcome, run_drift
from deployments.monitoring import Monitoring
from models.drift_notice import DriftNotice
from models.durations import parse_duration, written
from models.monitoring import MonitoringSettings, Schedule, drift_directory
from tests.drift_reports import report

DIGITS = {"model": "digits", "every": "1h"}
HOOK = {"kind": "slack", "url_env": "HOOK"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"schedules": [{"model": "digits"}]}, "schedules.0.every\n  Field required", id="no period"),
        pytest.param({"schedules": [{**DIGITS, "every": "weekly"}]}, "as in 24h", id="no duration"),
        pytest.param({"schedules": [{**DIGITS, "every": 3600}]}, "as in 24h", id="no unit"),
        pytest.param({"schedules": [{**DIGITS, "every": "1s"}]}, "at least 5s", id="too often"),
        pytest.param({"schedules": [{**DIGITS, "every": "0h"}]}, "longer than nothing", id="never"),
        pytest.param({"schedules": [{**DIGITS, "model": "../etc"}]}, "pattern", id="no name"),
        pytest.param({"schedules": [{**DIGITS, "rule": {"after": 4, "of": 3}}]}, "never so many", id="k above n"),
        pytest.param({"schedules": [DIGITS, {**DIGITS, "version": 2}]}, "same versions of digits", id="twice"),
        pytest.param({"alerts": [HOOK, HOOK]}, "same place", id="told twice"),
        pytest.param({"alerts": [{"kind": "slack"}]}, "one of url and url_env", id="no address"),
        pytest.param({"alerts": [{**HOOK, "url": "http://a"}]}, "one of url and url_env", id="two addresses"),
        pytest.param({"alerts": [{"kind": "json", "url": "file:///etc/passwd"}]}, "pattern", id="not http"),
        pytest.param({"alerts": [{"kind": "mail"}]}, "mail", id="unknown kind"),
        pytest.param({"alerts": [{"kind": "command", "command": []}]}, "at least 1", id="no command"),
        pytest.param({"alerts": [{"kind": "command", "command": "rm -rf"}]}, "tuple", id="a shell's line"),
        pytest.param({"on_critical": {"command": ["a"], "shell": True}}, "Extra inputs", id="unknown field"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MonitoringSettings.model_validate(settings)


def test_settings_travel_as_json() -> None:
    schedules = [{**DIGITS, "every": "7d", "window": "36h"}, {"model": "cats", "every": "90m", "window": 5000}]
    settings = MonitoringSettings.model_validate({"schedules": schedules, "alerts": [HOOK]})
    assert MonitoringSettings.model_validate_json(settings.model_dump_json()) == settings
    assert [schedule.reach for schedule in settings.schedules] == [timedelta(hours=36), 5000]


@pytest.mark.parametrize("text", ["90s", "15m", "36h", "1w", "10d", "0.5s"])
def test_durations_are_read_and_written(text: str) -> None:
    assert written(parse_duration(text)) == text


class World:
    """Surroundings without Ray: what is asked of them, and how the runs end."""

    def __init__(self, *errors: str | None) -> None:
        self.errors = list(errors)
        self.runs: list[DriftRun] = []
        self.told: list[list[DriftNotice]] = []
        self.under_way = 0
        self.most_at_once = 0

    async def versions(self, model: str) -> list[int]:
        return [1, 2]

    async def run(self, run: DriftRun) -> Outcome:
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        await asyncio.sleep(0.01)
        self.under_way -= 1
        self.runs.append(run)
        error = self.errors.pop(0) if self.errors else None
        if error == "bug":
            raise RuntimeError(error)
        if error == "no reference":
            return Outcome(None, skipped=error)
        if error == "nobody was told":
            return Outcome(DriftNotice.of(report(version=run.version)), error)
        return Outcome(None if error else DriftNotice.of(report(version=run.version)), error)

    async def tell(self, notices: Sequence[DriftNotice]) -> None:
        self.told.append(list(notices))

    def measured(self, run: DriftRun, outcome: Outcome) -> None:
        pass


def made(root: Path, world: World, *schedules: dict[str, Any]) -> Monitoring:
    settings = {"schedules": list(schedules) or [DIGITS], "traffic": str(root)}
    return Monitoring(MonitoringSettings.model_validate(settings), world)


HOURLY = Schedule.model_validate(DIGITS)


def test_each_version_that_runs_is_looked_at_and_the_referee_is_told_of_all(tmp_path: Path) -> None:
    world = World()
    asyncio.run(made(tmp_path, world).look(HOURLY))
    assert [(run.version, run.reach) for run in world.runs] == [(1, timedelta(hours=1)), (2, timedelta(hours=1))]
    assert [[notice.version for notice in notices] for notices in world.told] == [[1, 2]]
    assert world.runs[0].directory.parent == drift_directory(str(tmp_path), "digits")


def test_the_first_run_is_due_at_once_and_the_next_after_the_period(tmp_path: Path) -> None:
    watching = made(tmp_path, World())
    assert -5 < watching.wait_s(HOURLY) <= 0
    asyncio.run(watching.look(HOURLY))
    assert 3590 < watching.wait_s(HOURLY) <= 3600
    assert 3590 < made(tmp_path, World()).wait_s(HOURLY) <= 3600  # after a restart, too


def test_runs_that_a_restart_missed_are_made_up_for_once(tmp_path: Path) -> None:
    diary = DriftDiary(drift_directory(str(tmp_path), "digits"))
    diary.begin(HOURLY, datetime.now(UTC) - timedelta(hours=7.5))
    watching = made(tmp_path, World())
    assert watching.wait_s(HOURLY) < 0
    asyncio.run(watching.look(HOURLY))
    assert watching.wait_s(HOURLY) > 3590


def test_a_clock_that_is_set_back_delays_a_run_by_its_period_at_most(tmp_path: Path) -> None:
    DriftDiary(drift_directory(str(tmp_path), "digits")).begin(HOURLY, datetime.now(UTC) + timedelta(days=300))
    assert made(tmp_path, World()).wait_s(HOURLY) == 3600


def test_a_clock_that_is_set_back_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "POLL_S", 0.05)
    often = HOURLY.model_copy(update={"every": timedelta(seconds=0.3)})
    DriftDiary(drift_directory(str(tmp_path), "digits")).begin(often, datetime.now(UTC) + timedelta(days=300))
    world = World()
    watching = Monitoring(MonitoringSettings(traffic=str(tmp_path)).model_copy(update={"schedules": (often,)}), world)
    with suppress(TimeoutError):
        asyncio.run(asyncio.wait_for(watching.watch(), 2))
    assert world.runs


@pytest.mark.parametrize("error", ["the disk is full", "bug"])
def test_a_run_that_fails_is_tried_again_sooner(tmp_path: Path, error: str) -> None:
    weekly = Schedule.model_validate({**DIGITS, "every": "7d", "version": 1})
    watching = made(tmp_path, World(error, error, None), {**DIGITS, "every": "7d", "version": 1})
    waits = []
    for _ in range(3):
        with suppress(RuntimeError):
            asyncio.run(watching.look(weekly))
        waits.append(round(watching.wait_s(weekly)))
    assert waits == [60, 120, 7 * 86400]


def test_only_what_gave_no_report_is_tried_again(tmp_path: Path) -> None:
    world = World(None, "the disk is full", "the disk is full")
    watching = made(tmp_path, world)
    waits = []
    for _ in range(3):
        asyncio.run(watching.look(HOURLY))
        waits.append(round(watching.wait_s(HOURLY)))
    assert [run.version for run in world.runs] == [1, 2, 2, 2]
    assert waits == [60, 120, 3600]


@pytest.mark.parametrize("error", ["no reference", "nobody was told"])
def test_what_another_try_would_not_mend_waits_for_the_next_period(tmp_path: Path, error: str) -> None:
    watching = made(tmp_path, World(None, error))
    asyncio.run(watching.look(HOURLY))
    assert watching.wait_s(HOURLY) > 3590


def test_that_there_is_no_reference_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watching = made(tmp_path, World(*["no reference"] * 4))
    for _ in range(2):
        asyncio.run(watching.look(HOURLY))
    assert caplog.text.count("digits version 2 is not looked for: no reference") == 1


def test_a_run_that_a_restart_cut_short_is_made_up_for(tmp_path: Path) -> None:
    cut = World(None, "cut")

    async def run(run: DriftRun) -> Outcome:
        if cut.runs:
            raise asyncio.CancelledError
        return await World.run(cut, run)

    cut.run = run  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(made(tmp_path, cut).look(HOURLY))
    world = World()
    watching = made(tmp_path, world)
    assert watching.wait_s(HOURLY) <= 60
    asyncio.run(watching.look(HOURLY))
    assert [run.version for run in world.runs] == [2]  # the first has its report
    assert watching.wait_s(HOURLY) > 3500


def test_two_schedules_of_a_model_take_turns(tmp_path: Path) -> None:
    world = World()
    schedules = [{**DIGITS, "version": version} for version in (1, 2, 3)]
    watching = made(tmp_path, world, *schedules)

    async def all_at_once() -> None:
        await asyncio.gather(*(watching.look(Schedule.model_validate(each)) for each in schedules))

    asyncio.run(all_at_once())
    assert len(world.runs) == 3
    assert world.most_at_once == 1


def test_it_goes_on_after_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "RETRY_S", 0.01)
    monkeypatch.setattr(monitoring, "JITTER", 1e-6)  # of an hour: the first run comes after it, not never
    world = World("bug", "no data", "bug")
    watching = made(tmp_path, world, {**DIGITS, "version": 1})

    async def for_a_while() -> None:
        async with asyncio.timeout(20):
            task = asyncio.ensure_future(watching.watch())
            while not world.told:
                await asyncio.sleep(0.01)
            task.cancel()

    asyncio.run(for_a_while())
    assert len(world.runs) == 4


def test_a_disk_that_takes_nothing_does_not_make_it_run_all_the_time(tmp_path: Path) -> None:
    root = tmp_path / "traffic"
    root.write_text("not a directory")
    watching = made(root, World())
    asyncio.run(watching.look(HOURLY))
    assert watching.wait_s(HOURLY) > 3590


def program(directory: Path, code: str) -> str:
    """A `tiltyard` that does something else."""
    path = directory / "tiltyard"
    path.write_text(f"#!{sys.executable}\nimport json, os, pathlib, sys, time\n{code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


WRITE = """
out = pathlib.Path(next(a for a in sys.argv if a.startswith("--out="))[6:])
out.mkdir(parents=True)
(out / "report.json").write_text(REPORT)
(out / "seen.json").write_text(json.dumps([sys.argv[1:], json.load(sys.stdin), os.nice(0)]))
"""


@pytest.fixture
def run(tmp_path: Path) -> DriftRun:
    return DriftRun("digits", 1, timedelta(hours=36), tmp_path / "out")


def settings_of(tmp_path: Path, **more: Any) -> MonitoringSettings:
    return MonitoringSettings.model_validate({"traffic": str(tmp_path / "traffic"), **more})


def test_a_run_is_the_command_with_the_settings_on_its_standard_input(tmp_path: Path, run: DriftRun) -> None:
    code = WRITE.replace("REPORT", repr(report("critical").model_dump_json()))
    settings = settings_of(tmp_path, alerts=[HOOK])
    outcome = run_drift(run, settings, program(tmp_path, code))
    assert outcome.error is None
    assert outcome.notice is not None
    assert (outcome.notice.severity, outcome.notice.tiers["harm"]) == ("critical", "ok")
    assert outcome.notice.page == str(tmp_path / "out/report.html")
    arguments, given, niceness = json.loads((tmp_path / "out/seen.json").read_text())
    assert arguments[:4] == ["drift", "digits", "--version=1", "--since=36h"]
    assert MonitoringSettings.model_validate(given) == settings
    assert niceness >= 10


@pytest.mark.parametrize(
    ("code", "error"),
    [
        pytest.param("print('no reference'); sys.exit(1)", "it ended with status 1: no reference", id="refused"),
        pytest.param("time.sleep(60)", "it took longer than 0.5 s and was stopped", id="hangs"),
        pytest.param("os.kill(os.getpid(), 9)", "it ended with status -9: ", id="killed"),
    ],
)
def test_a_run_that_fails_says_why(tmp_path: Path, run: DriftRun, code: str, error: str) -> None:
    timeout_s = 0.5 if "longer" in error else 30
    assert run_drift(run, settings_of(tmp_path, timeout_s=timeout_s), program(tmp_path, code)) == Outcome(None, error)


def test_a_report_counts_though_nobody_could_be_told(tmp_path: Path, run: DriftRun) -> None:
    code = WRITE.replace("REPORT", repr(report().model_dump_json())) + "sys.exit('the webhook answered 500')"
    outcome = run_drift(run, settings_of(tmp_path), program(tmp_path, code))
    assert outcome.notice is not None
    assert outcome.error == "it ended with status 1: the webhook answered 500"


def test_without_a_reference_a_run_is_skipped(tmp_path: Path, run: DriftRun) -> None:
    code = program(tmp_path, "print('no reference'); sys.exit(4)")
    assert run_drift(run, settings_of(tmp_path), code) == Outcome(None, skipped="no reference")


def test_two_runs_of_a_model_are_never_under_way_at_once(tmp_path: Path, run: DriftRun) -> None:
    started = tmp_path / "started"
    slow = program(tmp_path, f"pathlib.Path({str(started)!r}).touch(); time.sleep(3)")
    settings = settings_of(tmp_path)

    async def both() -> tuple[Outcome, Outcome]:
        first = asyncio.create_task(asyncio.to_thread(run_drift, run, settings, slow))
        deadline = time.monotonic() + 20
        while not started.exists():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        second = await asyncio.to_thread(run_drift, run, settings, slow)
        return await first, second

    first, second = asyncio.run(both())
    assert first.error is None
    assert second.error == "another run about digits is under way"
    assert os.listdir(drift_directory(settings.traffic, "digits")) == [".running"]
