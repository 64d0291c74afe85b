import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from jobs.cli import app
from models.errors import InvalidRequest, ModelNotFound, ServiceError, ServiceNotRunning
from tests import comparisons

ANSWERS: dict[str, tuple[int, Any]] = {
    "/models/digits/rollout": (200, comparisons.hold()),
    "/models/hostile/rollout": (200, comparisons.hostile()),
    "/models/cats/rollout": (
        404,
        {"error": {"code": "model_not_found", "message": "no model 'cats'; there is: digits"}},
    ),
    "/models/busy/rollout": (503, {"error": {"code": "overloaded", "message": "too many requests"}}),
    "/models/old/rollout": (200, {"model": "old"}),
}


class Gateway(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # noqa: N802
        status, body = ANSWERS[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def gateway() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def compare(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", *arguments])


def words(done: Result) -> str:
    assert done.exception is None, done.exception
    return " ".join(done.stdout.split())


def test_the_terminal_shows_words_and_tables(gateway: str) -> None:
    shown = words(compare("digits", "--gateway", gateway))
    assert shown.startswith("… Undecided Version 2 answers 5 % of the traffic, as fast as the champion")
    for expected in ("19,000", "model failed 19", "4.1 ms", "97.5 % of 400", "✓ Within the limit", "3,200 more"):
        assert expected in shown
    assert "5ef8dccc-0f25-4e72-9075-a8b7a2bcac15" in shown


def test_the_page_is_written(gateway: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    shown = words(compare("digits", "--gateway", f"{gateway}/", "--html", str(path)))
    assert "The page is written to" in shown
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_labels_steer_neither_markup_nor_the_terminal(gateway: str) -> None:
    shown = words(compare("hostile", "--gateway", gateway))
    assert "\x1b" not in shown
    assert "[red]" in shown


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("cats",), ModelNotFound, "no model 'cats'; there is: digits"),
        (("busy",), ServiceError, "status 503: too many requests"),
        (("old",), ServiceError, "champion: Field required"),
        (("../x",), InvalidRequest, "model name"),
        (("digits", "--html", "/nowhere/page.html"), InvalidRequest, "No such file or directory"),
    ],
    ids=["unknown", "overloaded", "other contract", "bad name", "bad file"],
)
def test_what_goes_wrong_is_one_typed_error(
    gateway: str, arguments: tuple[str, ...], error: type[Exception], message: str
) -> None:
    done = compare(*arguments, "--gateway", gateway)
    assert type(done.exception) is error
    assert message in str(done.exception)


def test_no_gateway_says_so() -> None:
    done = compare("digits", "--gateway", "http://127.0.0.1:9")
    assert type(done.exception) is ServiceNotRunning


def test_no_service_says_so() -> None:
    done = compare("digits", "--address", "http://127.0.0.1:9")
    assert type(done.exception) is ServiceNotRunning
