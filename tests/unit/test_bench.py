"""The comparison's own arithmetic: what is read, scheduled, counted and rendered."""

import http.server
import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtests.answers import difference
from loadtests.closed_loop import parse_wrk
from loadtests.http_connections import UNANSWERED, Connections, http_request, status_if_complete, will_close
from loadtests.open_loop import generate, percentile, schedule, summary
from loadtests.ours import OURS, VARIANTS, serve_config
from loadtests.peers.catalogue import PEERS
from loadtests.peers.peer import Start
from loadtests.results import Cost, Failure, Measurement, Results
from loadtests.rounds import rotated
from loadtests.tables import BEGIN, END, insert, number, render
from loadtests.thresholds import Floor, missed
from loadtests.workloads import WORKLOADS, features, photograph
from models.policy import RoutingPolicy

WRK = """Running 2s test @ http://127.0.0.1:8000/predict
  1 threads and 8 connections
  Non-2xx or 3xx responses: 3
Requests/sec:    400.00
wrk-json {"requests": 803, "seconds": 2.0, "p50_ms": 19.5, "p90_ms": 22.0, "p99_ms": 30.25, "max_ms": 41.0, \
"status_errors": 3, "socket_errors": 1, "timeouts": 1}
"""


def test_the_line_of_wrk_is_read() -> None:
    closed = parse_wrk(WRK, cpu_s=0.5, cores=2)
    assert (closed.requests, closed.p50_ms, closed.p99_ms, closed.errors) == (803, 19.5, 30.25, 5)
    assert closed.per_second == 399, "what failed is not counted as answered"
    assert closed.cpu_share == 0.125


def test_wrk_without_its_line_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused", 0.1, 2)


def test_what_was_measured_of_other_workloads_may_be_kept() -> None:
    def results(command: str, *workloads: str, rps: float) -> Results:
        measured = [Measurement(1, workload, "mosec", "closed", 1, rps, 1.0, 2.0) for workload in workloads]
        return Results({"command": command}, measured, [Cost(1, workload, "mosec", 1, 1) for workload in workloads])

    now = results("second", "mlp", rps=2)
    now.keep(results("first", "mlp", "digits", rps=1), ["mlp"])
    assert {each.workload: each.rps for each in now.measurements} == {"mlp": 2, "digits": 1}
    assert [each.workload for each in now.costs] == ["mlp", "digits"]
    assert now.machine["command"] == "first ; second"


def test_requests_are_due_at_even_distances() -> None:
    assert list(schedule(4, 1)) == [0, 0.25, 0.5, 0.75]
    assert len(list(schedule(333.3, 3))) == 1000


@pytest.mark.parametrize(
    ("percent", "value"), [(50, 50), (99, 99), (99.5, 100), (100, 100), (1, 1)], ids=lambda value: str(value)
)
def test_percentiles_are_values_that_were_seen(percent: float, value: float) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == value


def test_a_summary_tells_refusals_from_errors() -> None:
    latencies = {200: [10.0, 20.0], 503: [1.0], 429: [2.0], 500: [3.0], UNANSWERED: [4.0]}
    result = summary(latencies, [0.1], rate=3, seconds=2, cpu_share=0.1)
    assert (result.requests, result.ok, result.refused, result.errors) == (6, 2, 2, 2)
    assert (result.goodput_rps, result.p50_ms, result.p99_ms, result.refused_p99_ms) == (1, 10, 20, 2)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", None),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", 503),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Le", None),
    ],
    ids=["whole", "body missing", "empty", "chunks missing", "chunked", "head missing"],
)
def test_an_answer_counts_when_all_of_it_is_there(data: bytes, status: int | None) -> None:
    assert status_if_complete(data) == status


def test_a_server_that_closes_is_not_asked_again_on_the_same_connection() -> None:
    assert will_close(b"HTTP/1.0 200 OK\r\n\r\n")
    assert will_close(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    assert not will_close(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nconnection: close")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[bytes]
    pause: threading.Event

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).pause.wait(5)
        type(self).seen.append(body)
        self.send_response(503 if len(self.seen) % 5 == 0 else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def server() -> Iterator[tuple[str, type[Handler]]]:
    handler = type("Fresh", (Handler,), {"seen": [], "pause": threading.Event()})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/predict", handler
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def test_the_open_loop_counts_every_request_by_its_status() -> None:
    with server() as (url, handler):
        handler.pause.set()
        connections = Connections(url, http_request(url, ["content-type: text/plain"], b"body"))
        generate(connections, rate=100, seconds=0.5)
    assert handler.seen == [b"body"] * 50
    assert {status: len(times) for status, times in connections.latencies_ms.items()} == {200: 40, 503: 10}


def test_a_stalled_server_is_charged_with_the_requests_that_were_due_meanwhile() -> None:
    """Coordinated omission: a generator that waits would see one slow request."""
    with server() as (url, handler):
        threading.Timer(0.6, handler.pause.set).start()
        connections = Connections(url, http_request(url, [], b"body"))
        generate(connections, rate=20, seconds=0.5)
    slow = sorted(time for times in connections.latencies_ms.values() for time in times)
    assert len(slow) == 10
    assert slow[0] >= 90, "the last one was due 0.45 s after the start and waited for the stall's end"
    assert slow[-1] >= 550


def test_nobody_there_is_counted_as_unanswered() -> None:
    with server() as (url, _):
        pass
    connections = Connections(url, http_request(url, [], b"body"))
    generate(connections, rate=20, seconds=0.2)
    assert {status: len(times) for status, times in connections.latencies_ms.items()} == {UNANSWERED: 4}


def test_rounds_start_with_another_server_each_time() -> None:
    assert [rotated("abc", by) for by in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]


def results() -> Results:
    """Two rounds; in the second the machine was half as fast."""
    found = Results({"machine": "a machine", "commit": "abc", "command": "make bench"})
    for turn, speed in enumerate((1.0, 0.5)):
        for peer, rps in (("tiltyard", 180.0), ("limit", 200.0), ("slow", 60.0)):
            for level in (1, 32):
                found.measurements.append(
                    Measurement(turn, "mobilenetv2", peer, "closed", level, rps * speed, 10 / speed, 20 / speed)
                )
        found.costs.append(Cost(turn, "mobilenetv2", "tiltyard", 12.0, 1500.0))
    return found


def test_ratios_are_medians_within_rounds() -> None:
    assert results().ratio("mobilenetv2", "tiltyard", "limit", 32) == pytest.approx(0.9)
    assert results().ratio("mobilenetv2", "tiltyard", "absent", 32) is None


def test_results_survive_the_disk(tmp_path: Path) -> None:
    written = results()
    written.failures.append(Failure(0, "mlp", "slow", "it did not start"))
    written.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == written
    assert json.loads((tmp_path / "results.json").read_text())["machine"]["commit"] == "abc"


def test_the_fastest_server_stands_first_in_the_table() -> None:
    text = render(results(), {"tiltyard": "Tiltyard"}, {"mobilenetv2": "MobileNetV2, JPEG"})
    assert "### MobileNetV2, JPEG" in text
    assert "Medians of 2 interleaved rounds" in text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    table = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}
    assert list(table) == ["limit", "Tiltyard", "slow"]
    assert table["Tiltyard"]["32 clients: req/s"] == "135"
    assert table["Tiltyard"]["p50 / p99 ms at 32"] == "15.0 / 30.0"
    assert (table["Tiltyard"]["of the limit"], table["slow"]["x Tiltyard"]) == ("0.90", "0.33")
    assert (table["Tiltyard"]["start s"], table["Tiltyard"]["memory MiB"]) == ("12.0", "1,500")


def test_tables_go_between_their_markers(tmp_path: Path) -> None:
    document = tmp_path / "RESULTS.md"
    document.write_text(f"# Results\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    insert("new", document)
    insert("newer", document)
    assert document.read_text() == f"# Results\n\n{BEGIN}\n\nnewer\n\n{END}\n\nafter\n"


def test_a_document_without_markers_gets_them_at_its_end(tmp_path: Path) -> None:
    document = tmp_path / "RESULTS.md"
    document.write_text("# Results\n")
    insert("new", document)
    assert document.read_text().startswith("# Results\n\n## The comparison")
    assert document.read_text().endswith(f"{BEGIN}\n\nnew\n\n{END}\n")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0, "0"), (0.1234, "0.12"), (12.34, "12.3"), (1234.5, "1,234")],
    ids=["nothing", "zero", "small", "middle", "large"],
)
def test_numbers_have_as_many_digits_as_mean_something(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_floor_that_is_missed_fails_the_run() -> None:
    assert missed(results(), [Floor.parse("mobilenetv2:limit=0.9"), Floor.parse("slow=2")], ["tiltyard"]) == []
    assert missed(results(), [Floor.parse("limit=0.95")], ["tiltyard"]) == [
        "mobilenetv2: 0.90 of limit's throughput, not 0.95"
    ]
    assert "not both measured" in missed(results(), [Floor.parse("absent=1")], ["tiltyard"])[0]


@pytest.mark.parametrize(
    ("load", "errors", "refused", "fails"),
    [("closed", 1, 0, True), ("open", 0, 1, True), ("overload", 0, 9, False), ("overload", 1, 9, True)],
    ids=["error", "refused", "refused at overload", "error at overload"],
)
def test_requests_that_were_not_answered_fail_the_run(load: str, errors: int, refused: int, fails: bool) -> None:
    found = results()
    measured = Measurement(0, "mobilenetv2", "tiltyard", load, 0.8, 1, 1, 1, errors=errors, refused=refused)  # type: ignore[arg-type]
    found.measurements.append(measured)
    assert bool(missed(found, [], ["tiltyard"])) is fails
    assert missed(found, [], ["someone else"]) == []


def test_a_difference_of_answers_is_of_probabilities() -> None:
    assert difference([0.1, 0.9], [0.2, 0.8]) == pytest.approx(0.1)
    assert math.isinf(difference([1.0], [0.5, 0.5]))


def test_payloads_are_what_the_comparison_says() -> None:
    assert 40_000 < len(photograph()) <= 45_000
    assert photograph() == photograph()
    assert len(json.loads(features())["instances"][0]) == 16


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_has_locked_requirements(name: str) -> None:
    requirements = PEERS[name].requirements
    assert requirements is not None
    lock = (requirements / "requirements.lock").read_text()
    assert "--hash=sha256:" in lock
    assert "onnxruntime==" in lock


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_our_configuration_routes_to_the_model(variant: object, tmp_path: Path) -> None:
    config = serve_config(variant, Start(WORKLOADS["digits"], 1234, 2, tmp_path))  # type: ignore[arg-type]
    gateway, version = config["applications"]
    policy = RoutingPolicy.model_validate(gateway["deployments"][0]["user_config"])
    assert policy.models["digits"].champion == 2
    assert version["name"] == "digits-v2"
    assert set(OURS) == {each.name for each in VARIANTS}
