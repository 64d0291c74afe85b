"""Alerts against a real HTTP server and real commands."""

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jobs.alerts import Notice, notify, send_test
from jobs.incident_file import IncidentFile
from jobs.incident_lines import Called, Told
from models.drift_report import DriftReport, Severity
from models.monitoring import MonitoringSettings, drift_directory
from models.rollout import History
from models.store import Store
from tests.drift_reports import HOSTILE, report


class Receiver:
    """A webhook. It answers with the statuses it is given, then 200; a status of 0 is no answer."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                if status == 200:
                    receiver.bodies.append(body)
                elif status == 0:
                    receiver.released.wait(20)
                    return
                self.send_response(status)
                if status in (301, 302):
                    self.send_header("location", f"{receiver.url}/elsewhere")
                if status == 429:
                    self.send_header("retry-after", "7")
                self.send_header("content-length", "0")
                self.end_headers()

            def do_GET(self) -> None:  # noqa: N802
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


class Watch:
    """What happens to a model's reports under some settings."""

    def __init__(self, directory: Path, *alerts: dict[str, Any], **settings: Any) -> None:
        self.root = str(directory / "traffic")
        self.store = Store(directory / "store")
        schedule = {"model": "digits", "every": "1h", "rule": settings.pop("rule", {"after": 1, "of": 1})}
        self.settings = MonitoringSettings.model_validate(
            {"schedules": [schedule], "alerts": list(alerts), "store": str(self.store.root), **settings}
        )
        self.slept: list[float] = []
        self.file = IncidentFile(drift_directory(self.root, "digits"))

    def notify(self, made: DriftReport) -> Notice:
        return notify(made, self.settings, self.root, Path("/reports/report.html"), self.slept.append)


def test_one_message_when_it_begins_one_when_it_is_worse_one_when_it_ends(tmp_path: Path, receiver: Receiver) -> None:
    watch = Watch(tmp_path, {"kind": "json", "url": receiver.url})
    severities: list[Severity] = ["ok", "warning", "warning", "critical", "critical", "ok", "ok", "ok"]
    for hour, severity in enumerate(severities):
        assert watch.notify(report(severity, hour=hour)).failures == ()
    assert [(body["event"], body["level"]) for body in receiver.bodies] == [
        ("opened", "warning"),
        ("worse", "critical"),
        ("resolved", "critical"),
    ]
    assert len({body["incident"] for body in receiver.bodies}) == 1
    first = receiver.bodies[0]
    assert first["schema_version"] == 1
    assert (first["model"], first["versions"], first["page"]) == ("digits", [1], "/reports/report.html")
    assert DriftReport.model_validate(first["report"]) == report("warning", hour=1)


def test_a_restart_repeats_nothing(tmp_path: Path, receiver: Receiver) -> None:
    for _ in range(3):
        Watch(tmp_path, {"kind": "json", "url": receiver.url}).notify(report("critical"))
    assert [body["event"] for body in receiver.bodies] == ["opened"]


def test_a_crash_between_deciding_and_sending_is_made_up_for(tmp_path: Path, receiver: Receiver) -> None:
    watch = Watch(tmp_path, {"kind": "json", "url": receiver.url})
    watch.notify(report("critical"))
    lines = watch.file.path.read_bytes().splitlines(keepends=True)
    watch.file.path.write_bytes(b"".join(line for line in lines if b'"told"' not in line))
    watch.notify(report("critical"))
    assert len(receiver.bodies) == 2


def test_slack_is_told_in_its_own_format_and_mentions_nobody(tmp_path: Path, receiver: Receiver) -> None:
    watch = Watch(tmp_path, {"kind": "slack", "url": receiver.url})
    watch.notify(report("critical", words=HOSTILE))
    body = receiver.bodies[0]
    assert set(body) == {"text", "attachments"}
    assert body["text"] == ":red_circle: Critical: drift of digits"
    text = body["attachments"][0]["text"]
    assert "<" not in text
    assert "&lt;!channel&gt;" in text
    for words in ("*Validity*: ok.", "*Drift*: critical.", "3,000 predictions", "/reports/report.html"):
        assert words in text


def test_an_address_can_be_a_secret(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(tmp_path, {"kind": "json", "url_env": "HOOK"})
    monkeypatch.setenv("HOOK", f"{receiver.url}/secret")
    assert watch.notify(report("critical")).failures == ()
    assert "secret" not in watch.file.path.read_text()
    monkeypatch.delenv("HOOK")
    (failure,) = watch.notify(report("ok", hour=1)).failures or watch.notify(report("ok", hour=2)).failures
    assert failure == "alert json-HOOK: the environment variable HOOK holds no http(s) address"


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("http://127.0.0.1:9/hidden\x01", id="a control character"),
        pytest.param("http://127.0.0.1:9/hid den", id="a blank"),
        pytest.param("http://user:hidden@127.0.0.1/", id="a password"),
        pytest.param("http://127.0.0.1:hidden/", id="no port"),
        pytest.param("http://[hidden/", id="half a bracket"),
        pytest.param("http://hidden\udce4/", id="not UTF-8"),
    ],
)
def test_a_secret_address_that_is_none_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    watch = Watch(tmp_path, {"kind": "json", "url_env": "HOOK"})
    monkeypatch.setenv("HOOK", address)
    assert watch.notify(report("critical")).failures == ("alert json-HOOK: the address is no valid URL",)
    assert watch.slept == []
    assert "hid" not in watch.file.path.read_text() + caplog.text


def test_blanks_around_a_secret_address_are_no_part_of_it(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", f" {receiver.url}/hidden\r\n")
    assert Watch(tmp_path, {"kind": "json", "url_env": "HOOK"}).notify(report("critical")).failures == ()


@pytest.mark.parametrize(
    ("statuses", "slept", "failure"),
    [
        pytest.param([500, 503], [1, 2], None, id="twice out of order"),
        pytest.param([429], [7], None, id="asked to come later"),
        pytest.param([500] * 9, [1, 2, 4], "answered 500", id="out of order"),
        pytest.param([404], [], "answered 404", id="not there"),
        pytest.param([302], [], "answered 302", id="moved"),
    ],
)
def test_it_tries_again_and_gives_up_visibly(
    tmp_path: Path,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    statuses: list[int],
    slept: list[float],
    failure: str | None,
) -> None:
    watch = Watch(tmp_path, {"kind": "json", "url": receiver.url})
    receiver.statuses = statuses
    notice = watch.notify(report("critical"))
    assert watch.slept == slept
    assert notice.failures == (() if failure is None else (f"alert {watch.settings.alerts[0].name}: {failure}",))
    told = [line for line in watch.file.lines() if isinstance(line, Told)]
    assert [line.error for line in told] == [failure]
    assert ("given up" in caplog.text) == (failure is not None)
    assert len(receiver.bodies) == (0 if failure else 1)


def test_what_did_not_arrive_is_tried_again_with_the_next_report(tmp_path: Path, receiver: Receiver) -> None:
    watch = Watch(tmp_path, {"kind": "json", "url": receiver.url, "attempts": 1})
    receiver.statuses = [500]
    assert watch.notify(report("critical")).failures
    assert watch.notify(report("critical", hour=1)).failures == ()
    assert [body["event"] for body in receiver.bodies] == ["opened"]


def test_a_receiver_that_hangs_is_left(tmp_path: Path, receiver: Receiver) -> None:
    watch = Watch(tmp_path, {"kind": "json", "url": receiver.url, "timeout_s": 0.2, "attempts": 2})
    receiver.statuses = [0, 0]
    started = time.monotonic()
    (failure,) = watch.notify(report("critical")).failures
    assert time.monotonic() - started < 5
    assert "TimeoutError" in failure


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        (failure,) = Watch(tmp_path, {"kind": "json", "url": url}).notify(report("critical")).failures
    assert "ConnectionRefusedError" in failure


def test_one_that_wants_only_critical_ones_is_told_only_those(tmp_path: Path, receiver: Receiver) -> None:
    watch = Watch(tmp_path, {"kind": "json", "url": receiver.url, "level": "critical"})
    severities: list[Severity] = ["warning", "ok", "ok", "critical"]
    for hour, severity in enumerate(severities):
        watch.notify(report(severity, hour=hour))
    assert [body["event"] for body in receiver.bodies] == ["opened"]


def test_one_that_is_added_later_is_not_told_of_what_is_over(tmp_path: Path, receiver: Receiver) -> None:
    severities: list[Severity] = ["critical", "ok", "ok"]
    for hour, severity in enumerate(severities):
        Watch(tmp_path).notify(report(severity, hour=hour))
    Watch(tmp_path, {"kind": "json", "url": receiver.url}).notify(report("ok", hour=3))
    assert receiver.bodies == []


COPY = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"


def test_a_command_finds_the_alert_on_its_standard_input(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COPY, str(tmp_path / "$(touch here)")]
    assert Watch(tmp_path, {"kind": "command", "command": command}).notify(report("critical")).failures == ()
    assert json.loads((tmp_path / "$(touch here)").read_text())["event"] == "opened"


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        pytest.param("print('no mail today'); raise SystemExit(3)", "ended with status 3: no mail today", id="fails"),
        pytest.param("import time; time.sleep(60)", "took longer than 0.5 s and was stopped", id="hangs"),
    ],
)
def test_a_command_that_fails_is_given_up(tmp_path: Path, code: str, failure: str) -> None:
    alert = {"kind": "command", "command": [sys.executable, "-c", code], "timeout_s": 0.5, "attempts": 1}
    if "status" in failure:
        alert["timeout_s"] = 30
    (said,) = Watch(tmp_path, alert).notify(report("critical")).failures
    assert failure in said


def test_what_a_command_leaves_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    code = "import subprocess; subprocess.Popen(['sleep', '5'])"
    alert = {"kind": "command", "command": [sys.executable, "-c", code]}
    started = time.monotonic()
    assert Watch(tmp_path, alert).notify(report("critical")).failures == ()
    assert time.monotonic() - started < 4


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    alert = {"kind": "command", "command": ["/nowhere/mail"], "attempts": 1}
    (said,) = Watch(tmp_path, alert).notify(report("critical")).failures
    assert "/nowhere/mail: No such file or directory" in said


def test_the_command_for_critical_is_run_once_per_incident_and_audited(tmp_path: Path) -> None:
    code = "import pathlib, sys; f = pathlib.Path(sys.argv[1]).open('a'); f.write('x')"
    on_critical = {"command": [sys.executable, "-c", code, str(tmp_path / "runs")]}
    severities: list[Severity] = ["warning", "critical", "critical", "ok", "ok", "critical"]
    for hour, severity in enumerate(severities):
        assert Watch(tmp_path, on_critical=on_critical).notify(report(severity, hour=hour)).failures == ()
    assert (tmp_path / "runs").read_text() == "xx"
    watch = Watch(tmp_path)
    called = [line for line in watch.file.lines() if isinstance(line, Called)]
    assert [line.outcome for line in called] == [None, "success"] * 2
    events = History(watch.store, "digits").events()
    assert [(event.action, event.by) for event in events] == [("on_critical", "drift")] * 4
    assert [event.evidence.get("outcome") for event in events] == [None, "success"] * 2


def test_a_retraining_that_fails_says_so(tmp_path: Path) -> None:
    watch = Watch(tmp_path, on_critical={"command": [sys.executable, "-c", "raise SystemExit('no data')"]})
    (failure,) = watch.notify(report("critical")).failures
    assert failure.startswith("on_critical: ")
    assert "ended with status 1: no data" in failure
    assert watch.notify(report("critical", hour=1)).failures == ()


def test_a_trial_reaches_everybody(tmp_path: Path, receiver: Receiver) -> None:
    watch = Watch(tmp_path, {"kind": "json", "url": receiver.url}, {"kind": "slack", "url": f"{receiver.url}/slack"})
    assert [each.error for each in send_test(watch.settings)] == [None, None]
    assert receiver.bodies[0]["event"] == "test"
    assert "nothing has happened" in receiver.bodies[1]["text"]
    assert not watch.file.path.exists()
