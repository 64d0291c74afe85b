"""What the referee decides from reports, with a real history on disk."""

import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deployments.feedback import Truth
from deployments.referee import Referee
from deployments.scores import Prediction, RouterReport
from models.drift_notice import DriftNotice
from models.drift_report import ReferenceSource, Severity
from models.errors import ModelNotFound
from models.policy import RoutingPolicy
from models.rollout import Event, History
from models.store import Store
from models.variant_statistics import VariantStatistics

POLICY = {"champion": 1, "challengers": {2: 0.5}}
RAMP = {"ramp": {"steps": [0.05, 0.2], "min_seconds": 0, "min_requests": 10}}
LOOSE = {"guard": {"max_error_rate_loss": 0.2, "max_p99_ratio": None, "max_confidence_shift": None}}


def good(answered: int, failed: int = 0) -> VariantStatistics:
    failures = Counter({"model_failed": failed} if failed else {})
    return VariantStatistics(answered=answered, failures=failures, latency=Counter({50: answered}))


class Table:
    """A referee, and the Routers that report to it."""

    def __init__(self, directory: Path, **policy: Any) -> None:
        self.store = Store(directory)
        self.history = History(self.store, "digits")
        self.declare(**policy)
        self.history.append(Event(model="digits", version=2, action="challenge", by="operator"))
        self.referee = Referee(self.store)

    def declare(self, **policy: Any) -> None:
        self.policy = RoutingPolicy.model_validate({"models": {"digits": {**POLICY, **policy}}})

    def report(self, router: str = "one", configured: float = 1.0, **versions: VariantStatistics) -> dict[int, float]:
        statistics = {("digits", int(name[1:])): sums for name, sums in versions.items()}
        report = RouterReport(router, 0.0, configured, self.policy, statistics, {}, {}, {}, ())
        return dict(self.referee.report(report).shares["digits"])

    def actions(self) -> list[str]:
        return [f"{event.action} {event.share:g}" for event in self.history.events() if event.share is not None]


def test_without_a_ramp_a_challenger_has_what_is_declared(tmp_path: Path) -> None:
    assert Table(tmp_path).report() == {2: 0.5}


def test_a_good_challenger_goes_up_step_by_step(tmp_path: Path) -> None:
    table = Table(tmp_path, **RAMP, **LOOSE)
    assert table.report() == {2: 0.05}
    table.referee.judge()
    seen = []
    for step in range(1, 4):
        table.report(v1=good(1000 * step), v2=good(1000 * step))
        table.referee.judge()
        table.referee.judge()
        seen.append(table.report(v1=good(1000 * step), v2=good(1000 * step))[2])
    assert seen == [0.2, 0.5, 0.5]
    assert table.actions() == ["ramp 0.2", "ramp 0.5"]
    assert [event.by for event in table.history.events()] == ["operator", "referee", "referee"]


def test_a_bad_one_is_stopped_and_stays_so_over_restarts(tmp_path: Path) -> None:
    table = Table(tmp_path, **RAMP)
    table.report()
    table.referee.judge()
    table.report(v1=good(2000), v2=good(50, failed=50))
    table.referee.judge()
    assert table.report(v1=good(2000), v2=good(50, failed=50)) == {2: 0.0}
    event = table.history.events()[-1]
    assert (event.action, event.by, event.version) == ("rollback", "referee", 2)
    assert event.evidence["checks"]
    table.referee = Referee(table.store)
    assert table.report() == {2: 0.0}
    assert "error" in table.referee.rollout("digits")["variants"][1]["stopped_because"]


def test_what_nobody_recorded_is_judged_a_little_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(tmp_path)
    table.history.path.unlink()
    monkeypatch.setattr("deployments.referee.GRACE_S", 0.1)
    table.report()
    table.referee.judge()
    table.report(v1=good(2000), v2=good(0, failed=200))
    table.referee.judge()
    assert table.actions() == []
    time.sleep(0.15)
    table.referee.judge()
    assert table.actions() == ["rollback 0"]


@pytest.mark.parametrize("judged", ["before", "after"])
def test_who_fails_before_the_command_has_recorded_it_is_stopped_once_it_has(tmp_path: Path, judged: str) -> None:
    table = Table(tmp_path)
    table.history.path.unlink()
    key = ("digits", 2)
    report = RouterReport("one", 0.0, 1.0, table.policy, {key: good(0, failed=5)}, {}, {key: "open"}, {key: 1}, ())
    table.referee.report(report)
    if judged == "before":
        table.referee.judge()
        assert table.actions() == []
    now = datetime.now(UTC)
    table.history.append(Event(model="digits", version=2, action="challenge", by="operator", time=now))
    table.referee.judge()
    assert table.actions() == ["rollback 0"]


@pytest.mark.parametrize(
    ("action", "policy"),
    [("promote", {"champion": 2, "challengers": {1: 0.0}}), ("weights", {"challengers": {2: 0.0}})],
    ids=["promoted", "without traffic"],
)
def test_who_is_not_on_trial_any_more_has_no_verdict(tmp_path: Path, action: Any, policy: dict[str, Any]) -> None:
    table = Table(tmp_path, **LOOSE)
    table.report()
    table.referee.judge()
    table.report(v1=good(1000), v2=good(1000))
    table.referee.judge()
    told = {each["version"]: each["verdict"] for each in table.referee.rollout("digits")["variants"]}
    assert told[2]["decision"] == "pass"
    table.declare(**LOOSE, **policy)
    table.history.append(Event(model="digits", version=2, action=action, by="operator"))
    table.report(configured=2.0, v1=good(1000), v2=good(1000))
    table.referee.judge()
    assert {each["verdict"] for each in table.referee.rollout("digits")["variants"]} == {None}


def test_a_champion_that_becomes_a_challenger_is_not_judged_by_its_past(tmp_path: Path) -> None:
    table = Table(tmp_path, champion=2, challengers={})
    table.history.path.unlink()
    table.report(v2=good(50, failed=500))
    table.referee.judge()
    table.declare(champion=1, challengers={2: 0.5})
    table.report(configured=2.0, v1=good(500), v2=good(50, failed=500))
    table.referee.judge()
    table.history.append(Event(model="digits", version=2, action="challenge", by="operator"))
    table.report(configured=2.0, v1=good(1000), v2=good(550, failed=500))
    table.referee.judge()
    assert table.actions() == []


def test_a_breaker_that_is_still_open_says_nothing_of_a_new_start(tmp_path: Path) -> None:
    table = Table(tmp_path)
    key = ("digits", 2)
    report = RouterReport("one", 0.0, 1.0, table.policy, {key: good(0, failed=9)}, {}, {key: "open"}, {key: 3}, ())
    table.referee.report(report)
    table.referee.judge()
    assert table.actions() == ["rollback 0"]
    table.history.append(Event(model="digits", version=2, action="challenge", by="operator"))
    for _ in range(3):
        table.referee.judge()
    assert table.actions() == ["rollback 0"]


def test_an_operator_gives_it_another_chance_on_new_numbers(tmp_path: Path) -> None:
    table = Table(tmp_path)
    table.report()
    table.referee.judge()
    table.report(v1=good(2000), v2=good(0, failed=200))
    table.referee.judge()
    assert table.report() == {2: 0.0}
    table.history.append(Event(model="digits", version=2, action="challenge", by="operator", share=0.5))
    for _ in range(3):
        assert table.report(v1=good(2000), v2=good(0, failed=200)) == {2: 0.5}
        table.referee.judge()


def test_routers_that_disagree_follow_the_newest_policy(tmp_path: Path) -> None:
    table = Table(tmp_path)
    assert table.report("one", configured=2) == {2: 0.5}
    table.declare(challengers={2: 0.1})
    assert table.report("two", configured=3) == {2: 0.1}
    table.declare()
    assert table.report("one", configured=2) == {2: 0.1}


def test_what_several_routers_saw_is_summed_and_a_restarted_one_counts_twice(tmp_path: Path) -> None:
    table = Table(tmp_path)
    table.report("one", v2=good(10))
    table.report("two", v2=good(5, failed=1))
    table.report("two", v2=good(6, failed=1))
    statistics = table.referee.rollout("digits")["variants"][1]["statistics"]
    assert (statistics["answered"], statistics["failed"], statistics["requests"]) == (16, 1, 17)


@pytest.mark.parametrize(
    ("answered", "trips", "actions"),
    [(100, 1, []), (100, 2, ["rollback 0"]), (0, 1, ["rollback 0"])],
    ids=["once", "again", "never answered"],
)
def test_a_breaker_that_stays_open_stops_the_challenger(
    tmp_path: Path, answered: int, trips: int, actions: list[str]
) -> None:
    table = Table(tmp_path)
    table.report()
    table.referee.judge()
    key = ("digits", 2)
    statistics = {key: good(answered, failed=5)}
    table.referee.report(RouterReport("one", 0.0, 1.0, table.policy, statistics, {}, {key: "open"}, {key: trips}, ()))
    table.referee.judge()
    assert table.actions() == actions
    assert table.referee.rollout("digits")["variants"][1]["breaker"] == "open"


def test_a_router_that_was_silent_is_not_counted_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.reports.SILENT_S", 0.0)
    table = Table(tmp_path)
    for _ in range(3):
        table.report("one", v2=good(10))
        table.referee.judge()
    assert table.referee.rollout("digits")["variants"][1]["statistics"]["answered"] == 10


def test_what_an_older_router_saw_before_a_trial_is_no_evidence(tmp_path: Path) -> None:
    table = Table(tmp_path)
    table.report("one", v1=good(1000), v2=good(10))
    table.referee.judge()
    table.report("two", v1=good(1000), v2=good(0, failed=500))  # it was there before, and is heard of only now
    table.referee.judge()
    assert table.actions() == []
    table.report("two", v1=good(2000), v2=good(0, failed=600))
    table.referee.judge()
    assert table.actions() == ["rollback 0"]


def test_a_version_that_was_retired_begins_anew(tmp_path: Path) -> None:
    table = Table(tmp_path)
    table.report(v1=good(1000), v2=good(500))
    table.referee.judge()
    table.report(v1=good(1100), v2=good(3))
    table.referee.judge()
    checks = table.referee.rollout("digits")["variants"][1]["verdict"]["checks"]
    assert all(check["challenger"] is None or check["challenger"] >= 0 for check in checks)
    assert table.actions() == []


def test_a_stop_counts_though_the_disk_is_full(tmp_path: Path) -> None:
    table = Table(tmp_path)
    table.report()
    table.referee.judge()
    table.history.path.unlink()
    table.history.path.mkdir()  # nothing can be written there
    table.report(v1=good(2000), v2=good(0, failed=200))
    for _ in range(3):
        table.referee.judge()
        assert table.report(v1=good(2000), v2=good(0, failed=200)) == {2: 0.0}
    table.history.path.rmdir()
    table.referee.judge()
    assert table.actions() == ["rollback 0"]


def test_feedback_is_joined_to_what_routers_reported(tmp_path: Path) -> None:
    table = Table(tmp_path)
    predictions = (Prediction("digits", 2, "a", "7"),)
    table.referee.report(RouterReport("one", 0.0, 1.0, table.policy, {}, {}, {}, {}, predictions))
    assert table.referee.feedback([Truth("a", "7")]) == ["counted"]
    statistics = table.referee.rollout("digits")["variants"][1]["statistics"]
    assert (statistics["labelled"], statistics["correct"]) == (1, 1)


def test_numbers_are_told_with_the_time_since_when_they_are_summed(tmp_path: Path) -> None:
    table = Table(tmp_path)
    for router, started in (("old", 1_800_000_000.0), ("new", 1_800_003_600.0)):
        table.referee.report(RouterReport(router, started, 1.0, table.policy, {}, {}, {}, {}, ()))
    assert table.referee.rollout("digits")["since"] == "2027-01-15T08:00:00+00:00"


def test_a_model_that_nobody_contests_has_no_rollout(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no rollout of model 'cats' is watched"):
        Table(tmp_path).referee.rollout("cats")


def notice(severity: Severity, version: int = 2, reference: ReferenceSource = "validation") -> DriftNotice:
    return DriftNotice(
        model="digits",
        version=version,
        severity=severity,
        reference=reference,
        words="images are darker",
        created=datetime.now(UTC),
    )


STRICT: dict[str, Any] = {"guard": {"stop_on_drift": "critical"}}


@pytest.mark.parametrize(
    ("policy", "told", "expected"),
    [
        pytest.param(STRICT, ["critical", None], 0.0, id="beyond what is accepted"),
        pytest.param(STRICT, ["warning", None], 0.5, id="within"),
        pytest.param({"guard": {"stop_on_drift": "warning"}}, ["warning", "ok"], 0.0, id="a warning is enough"),
        pytest.param(STRICT, ["critical", "warning"], 0.0, id="the champion's is less"),
        pytest.param(STRICT, ["critical", "critical"], 0.5, id="the traffic has changed for both"),
        pytest.param({}, ["critical", None], 0.5, id="nobody asked for it"),
    ],
)
def test_a_version_that_drifts_is_stopped(
    tmp_path: Path, policy: dict[str, Any], told: list[Severity | None], expected: float
) -> None:
    table = Table(tmp_path, **policy)
    table.report()
    table.referee.drift([notice(severity, version) for severity, version in zip(told, (2, 1), strict=True) if severity])
    assert table.report() == {2: expected}
    if expected == 0.0:
        stop = table.history.events()[-1]
        assert (stop.action, stop.by, stop.evidence["severity"]) == ("rollback", "referee", told[0])
        assert "images are darker" in table.referee.rollout("digits")["variants"][1]["stopped_because"]


@pytest.mark.parametrize(("champions", "expected"), [("traffic", 0.5), ("validation", 0.0)])
def test_nobody_is_stopped_by_what_cannot_be_compared(
    tmp_path: Path, champions: ReferenceSource, expected: float
) -> None:
    table = Table(tmp_path, **STRICT)
    table.report()
    table.referee.drift([notice("ok", 1, "traffic")])
    table.referee = Referee(table.store)
    table.report()
    table.referee.drift([notice("ok", 1, champions), notice("critical")])
    assert table.report() == {2: expected}


def test_drift_is_audited_where_it_changes(tmp_path: Path) -> None:
    table = Table(tmp_path)
    told: list[Severity] = ["ok", "warning", "warning", "critical", "ok"]
    for severity in told:
        table.referee.drift([notice(severity, version=1)])
        table.referee = Referee(table.store)
    events = [event for event in table.history.events() if event.action == "drift"]
    assert [event.evidence["severity"] for event in events] == ["ok", "warning", "critical", "ok"]
    assert events[1].because == "warning: images are darker"


def test_drift_does_not_make_a_ramp_begin_anew(tmp_path: Path) -> None:
    table = Table(tmp_path, **RAMP, **LOOSE)
    table.report()
    table.referee.judge()
    table.report(v1=good(1000), v2=good(1000))
    table.referee.judge()
    table.referee.drift([notice("warning")])
    assert table.report(v1=good(1000), v2=good(1000)) == {2: 0.2}
    table.referee.judge()
    checks = table.referee.rollout("digits")["variants"][1]["verdict"]["checks"]
    assert any(check["decision"] == "pass" for check in checks)  # by what the first step showed


def test_it_tells_how_many_routers_were_told_the_newest_policy(tmp_path: Path) -> None:
    table = Table(tmp_path)
    table.report("one")
    table.report("two")
    assert table.referee.rollout("digits")["agreeing"] == 2
    table.declare(challengers={2: 0.25})
    table.report("two", configured=2.0)
    rollout = table.referee.rollout("digits")
    assert (rollout["agreeing"], rollout["routers"]) == (1, 2)
    table.report("one", configured=2.1)
    assert table.referee.rollout("digits")["agreeing"] == 2
