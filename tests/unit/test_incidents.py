"""The incidents of a model, as tables: what each report brings about."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import incident_lines
from jobs.incident_file import IncidentFile
from jobs.incident_lines import Line, Looked
from jobs.incidents import next_turn
from models.drift_report import Finding, Severity, Tier, TierName
from models.monitoring import AlertRule
from tests.drift_reports import report

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
LETTERS: dict[str, Severity] = {"o": "ok", "w": "warning", "c": "critical", "u": "unknown"}
TURNS = {"opened": "O", "worse": "W", "resolved": "R"}


def looked(letter: str, hour: float, version: int = 1) -> Looked:
    time = START + timedelta(hours=hour)
    return Looked(time=time, version=version, severity=LETTERS[letter], words="it changed", every_s=3600)


def turns(reports: list[Looked], **rule: Any) -> str:
    """A letter for each report: what it brought about."""
    lines: list[Line] = []
    said = ""
    for each in reports:
        lines.append(each)
        turn = next_turn("digits", lines, AlertRule.model_validate(rule))
        said += "." if turn is None else TURNS[turn.turn]
        lines += [turn] if turn else []
    return said


@pytest.mark.parametrize(
    ("reports", "expected", "rule"),
    [
        pytest.param("ooo", "...", {}, id="nothing"),
        pytest.param("owo", "...", {}, id="one window"),
        pytest.param("ww", ".O", {}, id="two windows"),
        pytest.param("wow", "..O", {}, id="two of three"),
        pytest.param("woow", "....", {}, id="two of four"),
        pytest.param("c", "O", {"after": 1, "of": 1}, id="at once"),
        pytest.param("wwwww", ".O...", {}, id="one message"),
        pytest.param("wwcc", ".O.W", {}, id="worse"),
        pytest.param("cw", ".O", {}, id="one critical and one warning are a warning"),
        pytest.param("ccww", ".O..", {}, id="better, but not over"),
        pytest.param("wwoo", ".O.R", {}, id="over"),
        pytest.param("wwowoo", ".O...R", {}, id="good ones must be in a row"),
        pytest.param("wwoow", ".O.R.", {}, id="what led to the last one does not lead to the next"),
        pytest.param("wwooww", ".O.R.O", {}, id="again"),
        pytest.param("wwwoow", "..O.R.", {"after": 3, "of": 9}, id="a long memory does not flap"),
        pytest.param("wuuw", "...O", {}, id="too little data does not count for good"),
        pytest.param("uuuu", "....", {}, id="nor for bad"),
        pytest.param("wwuuuo", ".O....", {}, id="nor does it end anything"),
        pytest.param("wwww", "....", {"level": "critical"}, id="below the level"),
        pytest.param("ccww", ".O.R", {"level": "critical"}, id="below the level again"),
    ],
)
def test_reports_make_incidents(reports: str, expected: str, rule: dict[str, Any]) -> None:
    assert turns([looked(letter, hour) for hour, letter in enumerate(reports)], **rule) == expected


def by_tier(letters: str, hour: float) -> Looked:
    """Validity, drift, harm; a fourth letter f says that harm is known by feedback."""
    names: tuple[TierName, ...] = ("validity", "drift", "harm")
    tiers = tuple(
        Tier(
            name=name,
            severity=LETTERS[letter],
            words="it changed",
            findings=(finding(LETTERS[letter], letters.endswith("f")),) if name == "harm" else (),
        )
        for name, letter in zip(names, letters, strict=False)
    )
    made = report(hour=hour).model_copy(update={"tiers": tiers})
    return incident_lines.looked(made, AlertRule(), timedelta(hours=1))


def finding(severity: Severity, has_feedback: bool) -> Finding:
    method = "accuracy" if has_feedback else "estimated accuracy"
    return Finding(column="label", method=method, severity=severity, words="it is worse")


@pytest.mark.parametrize(
    ("reports", "expected", "rule"),
    [
        pytest.param("owu owu ouu ouu ouu", ".O...", {}, id="too little data for what was bad"),
        pytest.param("owu owu ouu oou oou", ".O..R", {}, id="and enough again"),
        pytest.param("owu oou owu oou oou", "..O.R", {}, id="of the others nothing need be known"),
        pytest.param("owu ouu ouu ouu owu", "....O", {}, id="too little data does not make it forgotten"),
        pytest.param("ocu ocu owu ouu ouo", ".O...", {}, id="nor does another question's answer"),
        pytest.param("oowf oowf ooo ooo ooo", ".O...", {}, id="an estimate takes back no feedback"),
        pytest.param("oowf oowf ooo ooof ooo ooof", ".O...R", {"resolve_after": 3}, id="feedback does"),
        pytest.param("oow oow ooo ooo", ".O.R", {}, id="an estimate takes back an estimate"),
        pytest.param("oowf ooo ooo ooo owo owo ooo ooo", ".....O.R", {}, id="what led to no incident keeps none open"),
    ],
)
def test_what_is_not_known_is_not_well(reports: str, expected: str, rule: dict[str, Any]) -> None:
    assert turns([by_tier(letters, hour) for hour, letters in enumerate(reports.split())], **rule) == expected


def test_two_versions_are_one_incident_that_ends_when_both_are_well() -> None:
    pairs = ["wo", "ww", "ow", "oo", "oo"]
    reports = [
        looked(letter, hour + version / 10, version)
        for hour, pair in enumerate(pairs)
        for version, letter in enumerate(pair, 1)
    ]
    assert turns(reports) == "..O......R"


def test_a_version_that_runs_no_more_keeps_no_incident_open() -> None:
    reports = [looked("w", 0), looked("w", 1), *(looked("o", hour, version=2) for hour in (2, 3, 4, 5))]
    assert turns(reports) == ".O...R"


def test_an_incident_has_a_name_a_beginning_and_words() -> None:
    lines: list[Line] = [looked("w", 0), looked("w", 1)]
    opened = next_turn("digits", lines, AlertRule())
    assert opened is not None
    assert (opened.incident, opened.versions) == ("digits-20261121T130000Z", (1,))
    assert opened.words == "version 1: it changed"
    lines += [opened, looked("o", 2), looked("o", 3)]
    resolved = next_turn("digits", lines, AlertRule())
    assert resolved is not None
    assert (resolved.incident, resolved.since, resolved.versions) == (opened.incident, opened.time, (1,))


def test_a_torn_line_is_left_out_and_the_next_one_is_whole(tmp_path: Path) -> None:
    file = IncidentFile(tmp_path / "digits")
    with file.alone():
        file.append(looked("w", 0))
        with file.path.open("a") as torn:
            torn.write('{"record": "loo')
        file.append(looked("o", 1))
    assert file.lines() == [looked("w", 0), looked("o", 1)]
