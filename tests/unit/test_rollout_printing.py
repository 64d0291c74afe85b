"""Where versions stand, as a person reads it."""

import pytest

from jobs.printing import out
from jobs.rollout_printing import print_history, print_status
from jobs.rollout_status import ModelStatus, Part, VersionStatus
from models.checks import Check
from models.rollout import Event
from models.verdict import Verdict

NUMBERS = {"requests": 12_345, "failed": 3, "p50_ms": 7.123, "p99_ms": 31.5}
MEASURED = {"breaker": "closed", "verdict": {"decision": "hold"}, "statistics": NUMBERS}


def printed(width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(out, "width", width)
    versions = (
        VersionStatus(Part(2, "champion", 0.9, 0.9), "RUNNING", 1),
        VersionStatus(Part(3, "challenger", 0.5, 0.1), "RUNNING", 2, MEASURED),
    )
    print_status([ModelStatus("digits", versions, True)])
    return capsys.readouterr().out.splitlines()


def test_a_version_is_a_row_where_there_is_room(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(130, capsys, monkeypatch)
    (row,) = (line for line in lines if "challenger" in line)
    for cell in ("running, 2 replicas", "12,345", "7.12", "31.5", "closed", "hold"):
        assert cell in row


def test_a_version_is_a_column_in_a_narrow_terminal_and_nothing_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(80, capsys, monkeypatch)
    assert max(map(len, lines)) <= 80
    for heading, cell in (("declared", "50.00%"), ("runs", "running, 2 replicas"), ("p99, ms", "31.5")):
        (row,) = (line for line in lines if heading in line)
        assert cell in row
    assert any("champion" in line and "challenger" in line for line in lines)


def test_a_decision_of_the_referee_has_a_line_for_each_guard(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "width", 200)
    errors = Check(name="error_rate", decision="rollback", limit=0.02, loss=0.04712345, low=0.0113, high=0.09)
    silent = Check(name="accuracy", decision="no data", limit=0.02)
    verdict = Verdict(decision="rollback", because="the error rate is worse", checks=(errors, silent))
    stopped = Event(
        model="digits",
        version=2,
        action="rollback",
        by="referee",
        share=0.0,
        because=verdict.because,
        evidence=verdict.model_dump(mode="json"),
    )
    promoted = Event(model="digits", version=3, action="promote", by="operator", evidence={"former_champion": 1})
    print_history([stopped, promoted])
    printed = capsys.readouterr().out
    assert "errors: +4.71 points (+1.13 to +9), limit +2" in printed
    assert printed.count("the error rate is worse") == 1
    assert "former champion 1" in printed
    for left_out in ("0.04712345", "checks", "{", "accuracy"):
        assert left_out not in printed
