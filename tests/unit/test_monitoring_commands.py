"""`tiltyard alerts test` and `tiltyard drift-history`, as they are typed."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.alerts import notify
from jobs.cli import app
from jobs.monitoring_settings import read_settings
from models.drift_history import PAGE, REPORT, prune, run_directory, runs
from models.errors import InvalidConfig
from models.monitoring import MonitoringSettings
from tests.drift_reports import CREATED, report
from tests.unit.test_alerts import Receiver, receiver

__all__ = ["receiver"]

CONFIG = """
applications:
  - name: monitoring
    route_prefix: null
    import_path: deployments.app:monitoring
    args:
      schedules: [{{model: digits, every: 7d}}]
      alerts: [{{kind: json, url: "{url}", attempts: 1}}]
"""


def config(directory: Path, url: str) -> Path:
    path = directory / "serve_config.yaml"
    path.write_text(CONFIG.format(url=url))
    return path


def write_run(traffic: Path, hour: int, severity: str = "ok") -> None:
    made = report("critical" if severity == "critical" else "ok", hour=hour)
    directory = run_directory(str(traffic), "digits", 1, CREATED + timedelta(hours=hour))
    directory.mkdir(parents=True)
    (directory / REPORT).write_text(made.model_dump_json())
    (directory / PAGE).write_text("page")


def test_a_test_message_is_sent(tmp_path: Path, receiver: Receiver) -> None:
    done = CliRunner().invoke(app, ["alerts", "test", "--file", str(config(tmp_path, receiver.url))])
    assert done.exit_code == 0
    assert "it arrived" in done.output
    assert receiver.bodies[0]["event"] == "test"


def test_one_that_does_not_arrive_is_an_error(tmp_path: Path, receiver: Receiver) -> None:
    receiver.statuses = [404]
    done = CliRunner().invoke(app, ["alerts", "test", "--file", str(config(tmp_path, receiver.url))])
    assert done.exit_code == 1
    assert "given up after 1 attempt: answered 404" in done.output


def test_settings_are_those_of_the_monitoring_application(tmp_path: Path) -> None:
    assert read_settings(str(config(tmp_path, "http://a"))).schedules[0].every == timedelta(days=7)
    (tmp_path / "none.yaml").write_text("applications: []")
    with pytest.raises(InvalidConfig, match="no monitoring application"):
        read_settings(str(tmp_path / "none.yaml"))
    with pytest.raises(InvalidConfig, match=r"args: alerts\.0\.json\.url"):
        read_settings(str(config(tmp_path, "ftp://a")))


def test_runs_and_incidents_are_told(tmp_path: Path) -> None:
    traffic = tmp_path / "traffic"
    settings = MonitoringSettings(traffic=str(traffic))
    for hour, severity in enumerate(["ok", "critical", "critical"]):
        write_run(traffic, hour, severity)
        notify(list(runs(str(traffic), "digits"))[-1][1], settings, str(traffic))
    arguments = ["drift-history", "digits", "--traffic", str(traffic)]
    text = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}).output
    for words in ("2026-11-21 14:00:00", "critical", "3,000", "opened, critical", "The newest page"):
        assert words in text
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json", "-n", "2"]).output)
    assert [each["severity"] for each in told["runs"]] == ["critical", "critical"]
    assert [each["turn"] for each in told["incidents"]] == ["opened"]


def test_there_may_be_nothing_yet(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["drift-history", "digits", "--traffic", str(tmp_path)])
    assert "No drift was looked for in digits yet." in done.output


def test_old_pages_are_removed_and_reports_stay(tmp_path: Path) -> None:
    for hour in range(4):
        write_run(tmp_path, hour)
    prune(str(tmp_path), "digits", kept=1)
    assert [(path / PAGE).exists() for path, _ in runs(str(tmp_path), "digits")] == [False, False, False, True]
