"""The log of a Router on its own: what is offered is stored or counted, whatever the disk does."""

import asyncio
import logging
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deployments import traffic_log
from deployments.agreement import compare
from deployments.feedback import Truth
from deployments.messages import Answer, Timing
from deployments.question import Asked, Entry, Images, Rows, Served, Variant
from deployments.settings import TrafficLogSettings
from deployments.traffic_flush import Pending
from deployments.traffic_log import TrafficLog
from models.errors import InvalidImage, ModelFailed
from models.features import ImageFeatures
from models.manifest import Artifact, Manifest, OutputKind
from models.policy import ModelPolicy
from models.signature import Signature, TensorSpec
from models.traffic import IMAGE_FEATURES, INPUTS, PREDICTIONS
from models.traffic_ledger import Account
from models.traffic_spool import LEDGER, Stream
from models.traffic_spooled import Spool
from tests.processes import wait_for
from tests.tiny import floats

ROOT = Path(__file__).parents[2]
DIGITS = Stream("predictions", "digits")
SPEC = TensorSpec(name="x", dtype="float32", shape=(None, 2))
POLICY = ModelPolicy.model_validate({"champion": 1, "challengers": {2: 0.5}, "shadows": {3: 1.0}})
CHAMPION, CHALLENGER, SHADOW = (
    Variant("digits", 1, "champion"),
    Variant("digits", 2, "challenger"),
    Variant("digits", 3, "shadow"),
)
FEATURES = ImageFeatures(8.0, 8.0, 1.0, 70.0, "PNG", 0.5, 0.1, 0.2, 0.3, 0.0, 0.0, 0.5, 0.5, 0.5)


def manifest(version: int = 1, output: OutputKind = "probabilities") -> Manifest:
    return Manifest(
        model="digits",
        version=version,
        signature=Signature(inputs=(SPEC,), outputs=(SPEC,)),
        output=output,
        labels=("odd", "even"),
        artifacts=(Artifact(kind="onnx", path="model.onnx", bytes=1),),
        chosen="onnx",
        chosen_because="the only artifact",
    )


MANIFEST = manifest()


@pytest.fixture(autouse=True)
def no_ledger_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    for ledger in tmp_path.rglob(LEDGER):
        ledger.resolve().unlink(missing_ok=True)


def settings(tmp_path: Path, **changes: Any) -> TrafficLogSettings:
    return TrafficLogSettings(root=str(tmp_path / "traffic"), **{"flush_period_s": 0.05, **changes})


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., TrafficLog]]:
    logs: list[TrafficLog] = []

    def make(start: bool = True, count: Any = None, **changes: Any) -> TrafficLog:
        logs.append(TrafficLog(settings(tmp_path, **changes), count))
        if start:
            logs[-1].start()
        return logs[-1]

    yield make
    for log in logs:
        log.close()


def asked(
    log: TrafficLog, question: Images | Rows, request_id: str = "r", variant: Variant = CHAMPION, key: str | None = None
) -> Asked:
    return Asked(POLICY, variant, question, time.monotonic() + 10, request_id, log.entry(time.monotonic(), key))


def answer(values: Any, **more: Any) -> Answer:
    return Answer({"y": floats(values)}, Timing(0.1, 0.2, 0.3, 0.4), **more)


def image(log: TrafficLog, request_id: str = "r", **more: Any) -> None:
    log.note(
        asked(log, Images([b"\x89PNG..."], True), request_id, **more),
        [Served(CHAMPION, answer([[0.25, 0.75]], features=FEATURES), MANIFEST)],
    )


def stored(log: TrafficLog, stream: Stream = DIGITS) -> pa.Table:
    paths = sorted((log.settings.spool_path).glob(f"*/{stream.name}/*.parquet"))
    return pa.concat_tables([pq.read_table(path) for path in paths], promote_options="default") if paths else None


def account(log: TrafficLog, stream: Stream = DIGITS) -> Account:
    return Spool(log.settings.spool_path).accounts().get(stream, Account())


def test_an_image_is_told_in_full(made: Callable[..., TrafficLog]) -> None:
    log = made()
    before = time.time()
    embedding = np.array([[1, 2]], np.float16)
    log.note(
        asked(log, Images([b"\x89PNG..."], True), "mine", key="secret"),
        [Served(CHAMPION, answer([[0.25, 0.75]], features=FEATURES, embedding=embedding), MANIFEST)],
    )
    log.close()
    table = stored(log)
    assert table.schema.names == PREDICTIONS.names + IMAGE_FEATURES.names
    assert table.schema.field("time").type == PREDICTIONS.field("time").type
    [row] = table.to_pylist()
    assert before <= row["time"].timestamp() <= time.time()
    assert row["day"] == row["time"].date()
    assert (row["request_id"], row["item"], row["model"], row["version"]) == ("mine", 0, "digits", 1)
    assert (row["variant"], row["status"], row["weight"], row["cache_hit"]) == ("champion", "ok", 1, False)
    assert row["key_id"] == log.key_id("secret")
    assert "secret" not in row["key_id"]
    phases = [row[name] for name in ("queue_ms", "preprocess_ms", "batch_ms", "compute_ms")]
    assert phases == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert 0 <= row["total_ms"] < 10_000
    assert (row["label"], row["confidence"], row["margin"]) == ("even", 0.75, 0.5)
    assert row["probabilities"] == [0.25, 0.75]
    assert np.frombuffer(row["embedding"], "<f2").tolist() == [1, 2]
    assert row["compared_with"] is row["agrees"] is None
    assert (row["image_width"], row["image_format"]) == (8, "PNG")
    assert row["writer"] == log.writer.name


def test_tensors_are_told_row_by_row(made: Callable[..., TrafficLog]) -> None:
    log = made()
    for number, rows in enumerate((2, 1, 3)):
        inputs = {"x": np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)}
        log.note(asked(log, Rows(inputs), f"r{number}"), [Served(CHAMPION, answer([[0.25, 0.75]] * rows), MANIFEST)])
    log.close()
    told = stored(log).sort_by("sequence").to_pylist()
    assert [(row["request_id"], row["item"]) for row in told] == [
        ("r0", 0), ("r0", 1), ("r1", 0), ("r2", 0), ("r2", 1), ("r2", 2),
    ]  # fmt: skip
    assert [row["input_x_1"] for row in told] == [1, 3, 1, 1, 3, 5]
    assert len({row["sequence"] for row in told}) == 6
    assert account(log) == Account(accepted=6, spooled=6)


def test_failures_are_told_too(made: Callable[..., TrafficLog]) -> None:
    log = made()
    question = Images([b"a", b"b"], True)
    log.note(
        asked(log, question, "some"),
        [Served(CHAMPION, InvalidImage("no image")), Served(CHAMPION, answer([[1, 0]], features=FEATURES), MANIFEST)],
    )
    log.note_failure(asked(log, question, "all"), ModelFailed("it failed"), MANIFEST)
    log.note_failure(asked(log, question, "bug"), RuntimeError(), None)
    log.note_failure(asked(log, question, "gone"), asyncio.CancelledError(), None)
    log.note(asked(log, question, "nan"), [Served(CHAMPION, answer([[np.nan, 0]]), MANIFEST)] * 2)
    log.close()
    statuses = Counter((row["request_id"], row["status"]) for row in stored(log).to_pylist())
    assert statuses == {
        ("some", "invalid_image"): 1, ("some", "ok"): 1, ("all", "model_failed"): 2, ("bug", "internal_error"): 2,
        ("gone", "cancelled"): 2, ("nan", "model_failed"): 2,
    }  # fmt: skip
    [unread] = [row for row in stored(log).to_pylist() if row["status"] == "invalid_image"]
    assert unread["image_width"] is unread["image_format"] is unread["label"] is unread["queue_ms"] is None


def test_a_shadow_is_told_beside_the_champion(made: Callable[..., TrafficLog]) -> None:
    log = made()
    request = asked(log, Images([b"a"], True), "r")
    champions, its = answer([[0.25, 0.75]], features=FEATURES), answer([[0.75, 0.25]])
    served = [Served(CHAMPION, champions, MANIFEST)]
    log.note(request, served)
    agreements = {0: compare(champions, its, MANIFEST)}
    log.note_copies(request, dict(enumerate(served)), {0: Served(SHADOW, its, manifest(3))}, agreements, 7.0)
    log.note_copies(request, dict(enumerate(served)), {0: Served(SHADOW, ModelFailed("no"), None)}, {}, 7.0)
    log.close()
    rows = {(row["variant"], row["status"]): row for row in stored(log).to_pylist()}
    shadow = rows["shadow", "ok"]
    assert (shadow["version"], shadow["label"], shadow["total_ms"]) == (3, "odd", 7)
    assert (shadow["compared_with"], shadow["agrees"], shadow["max_difference"]) == (1, False, 0.5)
    assert shadow["image_width"] == 8
    assert rows["shadow", "model_failed"]["agrees"] is None
    assert rows["champion", "ok"]["compared_with"] is None


def test_a_challenger_waits_a_moment_for_the_champions_answer(made: Callable[..., TrafficLog]) -> None:
    log = made()
    champions, its = answer([[0.25, 0.75]]), answer([[0.25, 0.75]])

    def ask(request_id: str) -> Any:
        return log.note(
            asked(log, Images([b"a"], True), request_id, CHALLENGER),
            [Served(CHALLENGER, its, manifest(2))],
            awaits_comparison=True,
        )

    compared = ask("compared")
    ask("never compared")
    time.sleep(0.12)
    assert account(log).spooled == 0
    log.note_comparison(compared, CHAMPION, {0: compare(champions, its, MANIFEST)})
    wait_for(lambda: account(log).spooled == 2)
    rows = {row["request_id"]: row for row in stored(log).to_pylist()}
    assert (rows["compared"]["compared_with"], rows["compared"]["agrees"]) == (1, True)
    assert rows["never compared"]["compared_with"] is None


def test_sampled_requests_say_what_they_stand_for(made: Callable[..., TrafficLog]) -> None:
    random.seed(0)
    log = made(sample=0.25)
    for _ in range(400):
        image(log)
    log.close()
    sums = account(log)
    assert sums.accepted + sums.sampled_out == 400
    assert sums.accepted == sums.spooled == pytest.approx(100, abs=30)
    assert set(stored(log)["weight"].to_pylist()) == {4}


def test_inputs_are_kept_where_they_are_wanted(made: Callable[..., TrafficLog]) -> None:
    log = made(inputs=1.0)
    image(log, "image")
    spec = TensorSpec(name="t", dtype="string", shape=(None, 1))
    texts = Signature(inputs=(spec,), outputs=())
    log.note(
        asked(log, Rows({"t": np.array([["Rome"], ["Oslo"]], object)}), "texts"),
        [Served(CHAMPION, answer([[1, 0]] * 2), MANIFEST.model_copy(update={"signature": texts}))],
    )
    log.close()
    kept = stored(log, Stream("inputs", "digits"))
    assert kept.schema.names == INPUTS.names
    rows = {(row["request_id"], row["item"]): row for row in kept.to_pylist()}
    assert (rows["image", 0]["content_type"], rows["image", 0]["content"]) == ("image/png", b"\x89PNG...")
    assert {key for key in rows if key[0] == "texts"} == {("texts", 0), ("texts", 1)}
    for path in log.settings.spool_path.rglob("*.parquet"):
        assert b"Rome" not in path.read_bytes(), "text never leaves"
        assert not any(b"Rome" in (value or b"") for value in pq.read_table(path).to_pydict().get("content", []))
    assert account(log, Stream("inputs", "digits")) == Account(accepted=3, spooled=3)


def test_an_image_that_the_champion_answered_for_a_challenger_is_kept_once(made: Callable[..., TrafficLog]) -> None:
    log = made(inputs=1.0)
    request = asked(log, Images([b"\x89PNG..."], True), "r", CHALLENGER)
    log.note_failures(request, {0: ModelFailed("it failed")}, manifest(2))
    log.note(request, [Served(CHAMPION, answer([[1, 0]]), MANIFEST)])
    log.close()
    assert account(log) == Account(accepted=2, spooled=2)
    assert account(log, Stream("inputs", "digits")) == Account(accepted=1, spooled=1)


def test_a_key_that_cannot_be_hashed_is_nobody_elses_problem(
    made: Callable[..., TrafficLog], caplog: pytest.LogCaptureFixture
) -> None:
    log = made()
    caplog.set_level(logging.ERROR, "ray.serve")
    for _ in range(2):
        image(log, key="\ud800")  # half of a character
    log.close()
    assert stored(log)["key_id"].to_pylist() == [None, None]
    assert caplog.text.count("the traffic log has a bug") == 1


def test_feedback_is_kept(made: Callable[..., TrafficLog]) -> None:
    log = made()
    log.note_feedback([Truth("a", "even"), Truth("b", "odd", "digits")])
    log.close()
    rows = stored(log, Stream("feedback")).to_pylist()
    assert [(row["request_id"], row["label"], row["source"], row["model"]) for row in rows] == [
        ("a", "even", "http", None),
        ("b", "odd", "http", "digits"),
    ]


def test_what_becomes_of_records_is_counted_by_model(made: Callable[..., TrafficLog]) -> None:
    counted: Counter[tuple[str, str]] = Counter()
    log = made(count=lambda model, state, records: counted.update({(model, state): records}), max_buffered_records=5)
    for _ in range(8):
        image(log)
    log.note_feedback([Truth("a", "even")])
    log.close()
    lost = counted["digits", "lost_buffer_full"]
    assert lost > 0
    assert counted["digits", "stored"] + lost == 8
    assert account(log).lost == {"buffer_full": lost}


def test_the_buffer_is_bounded_in_bytes_too(made: Callable[..., TrafficLog], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic_log, "MAX_BUFFERED_BYTES", 100_000)
    log = made(start=False)
    big = {"x": np.zeros((1, 10_000), np.float32)}
    for _ in range(10):
        log.note(asked(log, Rows(big)), [Served(CHAMPION, answer([[1, 0]]), MANIFEST)])
    log.close()
    assert account(log) == Account(accepted=10, spooled=2, lost={"buffer_full": 8})


def test_records_that_cannot_be_made_are_counted_and_said_and_others_are_not_hurt(
    made: Callable[..., TrafficLog], caplog: pytest.LogCaptureFixture
) -> None:
    log = made()
    image(log, "good")
    log.note(asked(log, Images([b"a"], True), "bad"), [Served(CHAMPION, answer([[1, 0]] * 3), MANIFEST)])
    image(log, "good too")
    log.close()
    assert account(log) == Account(accepted=3, spooled=2, lost={"error": 1})
    assert "a record of digits cannot be written" in caplog.text


def test_versions_whose_inputs_have_other_types_are_both_stored(made: Callable[..., TrafficLog]) -> None:
    log = made()
    text = TensorSpec(name="x", dtype="string", shape=(None, 1))
    texts = manifest(2).model_copy(update={"signature": Signature(inputs=(text,), outputs=(SPEC,))})
    number = TensorSpec(name="x", dtype="float32", shape=(None, 1))
    numbers = MANIFEST.model_copy(update={"signature": Signature(inputs=(number,), outputs=(SPEC,))})
    for _ in range(3):
        question = Rows({"x": np.array([[0.5]], np.float32)})
        log.note(asked(log, question, "number"), [Served(CHAMPION, answer([[1, 0]]), numbers)])
        question = Rows({"x": np.array([["Rome"]], object)})
        log.note(asked(log, question, "text", CHALLENGER), [Served(CHALLENGER, answer([[1, 0]]), texts)])
    log.close()
    assert account(log) == Account(accepted=6, spooled=6)
    tables = [pq.read_table(path) for path in log.settings.spool_path.rglob("*.parquet")]
    told = Counter((row["request_id"], type(row["input_x"])) for table in tables for row in table.to_pylist())
    assert told == {("number", float): 3, ("text", str): 3}


def test_rows_that_no_file_can_hold_are_counted_and_hold_up_no_others(
    made: Callable[..., TrafficLog], caplog: pytest.LogCaptureFixture
) -> None:
    log = made(start=False)
    log.writer.ledger.slot("predictions/cats").add("accepted", 1)
    no_such_type = pa.table({"x": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})
    log._flush._pending.append(Pending(Stream("predictions", "cats"), no_such_type, 1, 10))
    image(log)
    log.start()
    wait_for(lambda: account(log).spooled == 1)
    log.close()
    assert account(log, Stream("predictions", "cats")) == Account(accepted=1, lost={"error": 1})
    assert log._flush.settled == 2
    assert caplog.text.count("rows of predictions/cats cannot be written") == 1


def test_a_bug_in_the_log_is_nobody_elses_problem(
    made: Callable[..., TrafficLog], caplog: pytest.LogCaptureFixture
) -> None:
    log = made()
    broken = Asked(POLICY, CHAMPION, None, 0.0, "r", Entry(1.0, False, 0.0, None))  # type: ignore[arg-type]
    caplog.set_level(logging.ERROR, "ray.serve")
    for _ in range(3):
        assert log.note(broken, [Served(CHAMPION, answer([[1, 0]]), MANIFEST)]) == []
    assert caplog.text.count("the traffic log has a bug") == 1
    image(log)
    log.close()
    assert account(log) == Account(accepted=4, spooled=1, lost={"not_taken": 3})


def test_a_router_that_has_nothing_to_write_is_in_the_spool(made: Callable[..., TrafficLog]) -> None:
    log = made()
    wait_for(lambda: log.writer.directory.exists())


def test_a_directory_that_cannot_be_written_is_tried_again(
    made: Callable[..., TrafficLog], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "traffic").write_text("in the way")
    log = made(max_buffered_records=10)
    for _ in range(10):
        image(log)
    wait_for(lambda: log._flush.is_failing)
    image(log)
    assert caplog.text.count("cannot be written, and is tried again") == 1
    (tmp_path / "traffic").unlink()
    wait_for(lambda: not log._flush.is_failing)
    log.close()
    assert account(log) == Account(accepted=11, spooled=10, lost={"disk": 1})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


def test_a_full_disk_loses_nothing_that_memory_holds(made: Callable[..., TrafficLog], small_disk: Path) -> None:
    log = made(spool=str(small_disk / "spool"), max_buffered_records=50)
    filler = small_disk / "filler"
    image(log)
    wait_for(lambda: account(log).spooled == 1)
    with pytest.raises(OSError, match="No space left"):
        fill(filler)
    for _ in range(60):
        image(log)
    wait_for(lambda: log._flush.is_failing)
    for _ in range(5):
        image(log)
    assert not list((small_disk / "spool").rglob("*.tmp"))
    filler.unlink()
    wait_for(lambda: account(log).buffered == 0)
    log.close()
    sums = account(log)
    assert sums.accepted == 66
    assert sums.spooled == 51
    assert sum(sums.lost.values()) == 15
    assert set(sums.lost) <= {"buffer_full", "disk"}
    assert stored(log).num_rows == 51


def test_a_disk_that_becomes_read_only_loses_nothing_that_memory_holds(
    made: Callable[..., TrafficLog], small_disk: Path
) -> None:
    log = made(spool=str(small_disk / "spool"))
    image(log)
    wait_for(lambda: account(log).spooled == 1)
    wait_for(lambda: not subprocess.run(["mount", "-o", "remount,ro", small_disk], check=False).returncode)
    for _ in range(20):
        image(log)
    wait_for(lambda: log._flush.is_failing)
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    wait_for(lambda: account(log).buffered == 0)
    log.close()
    assert account(log) == Account(accepted=21, spooled=21)


def test_at_the_end_what_no_disk_takes_is_counted(
    made: Callable[..., TrafficLog], small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.traffic_flush.CLOSE_S", 0.2)
    log = made(spool=str(small_disk / "spool"))
    image(log)
    wait_for(lambda: account(log).spooled == 1)
    wait_for(lambda: not subprocess.run(["mount", "-o", "remount,ro", small_disk], check=False).returncode)
    image(log)
    log.close()
    image(log)
    assert account(log) == Account(accepted=3, spooled=1, lost={"shutdown": 2})


def test_a_spool_that_nobody_empties_takes_no_more(made: Callable[..., TrafficLog]) -> None:
    log = made(max_spool_bytes=1)
    image(log)
    wait_for(lambda: log._flush.is_spool_full)
    image(log)
    assert account(log) == Account(accepted=2, spooled=1, lost={"spool_full": 1})
    shutil.rmtree(log.writer.directory / "predictions")
    wait_for(lambda: not log._flush.is_spool_full)
    image(log)
    wait_for(lambda: account(log).spooled == 2)


def test_the_clock_may_jump(made: Callable[..., TrafficLog], monkeypatch: pytest.MonkeyPatch) -> None:
    log = made()
    now = time.time()
    for jump in (0, -86_400 * 3, 86_400 * 400, 0):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda jump=jump: now + jump)
            image(log, str(jump))
            wait_for(lambda: account(log).buffered == 0)
    log.close()
    rows = stored(log).sort_by("sequence").to_pylist()
    assert [round(row["time"].timestamp() - now) for row in rows] == [0, -86_400 * 3, 86_400 * 400, 0]
    assert all(row["day"] == row["time"].date() for row in rows)


LOADED = """
import sys, time
from tests.unit.test_traffic_log import image
from deployments.settings import TrafficLogSettings
from deployments.traffic_log import TrafficLog

log = TrafficLog(TrafficLogSettings(root=sys.argv[1], flush_period_s=0.1))
log.start()
print("ready", flush=True)
number = 0
while True:
    for _ in range(10):
        image(log, f"{log.writer.name}-{number}")
        number += 1
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    time.sleep(0.01)
"""


def loaded(root: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", LOADED, str(root)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_killed_at_load_four_at_once_every_record_is_accounted_for(tmp_path: Path) -> None:
    processes = [loaded(tmp_path) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    answered, last_s = 0, 0.0
    try:
        for process in processes:
            time.sleep(random.uniform(0.3, 0.8))
            process.kill()
            last_s = time.time()
            rest = process.communicate(timeout=30)[0].splitlines()
            assert process.returncode == -signal.SIGKILL
            answered += int(rest[-1] if rest[-1] else rest[-2])
    finally:
        for process in processes:
            process.kill()
    spool = Spool(tmp_path / ".spool")
    sums = spool.accounts()[DIGITS]
    on_disk = [pq.read_table(path, columns=["request_id", "time"]) for path in spool.path.rglob("*.parquet")]
    rows = pa.concat_tables(on_disk)
    assert len(spool.writers()) == 4
    assert sums.spooled == rows.num_rows == len(set(rows["request_id"].to_pylist()))
    assert sums.accepted == sums.spooled + sum(sums.lost.values())
    assert set(sums.lost) <= {"kill"}
    assert answered <= sums.accepted <= answered + 4 * 10
    assert max(rows["time"].to_pylist()).timestamp() > last_s - 1, "no more than a second is lost"


def test_who_writes_where_says_so_in_the_settings(tmp_path: Path) -> None:
    assert settings(tmp_path).spool_path == tmp_path / "traffic" / ".spool"
    assert TrafficLogSettings().root_uri == str(ROOT / "models" / "traffic")
    with pytest.raises(ValueError, match="flush_period_s"):  # a record may wait 0.25 s for a comparison
        settings(tmp_path, flush_period_s=0.8)
    with pytest.raises(ValueError, match="spool: a directory is needed"):
        TrafficLogSettings(root="s3://bucket/traffic")
    with pytest.raises(ValueError, match="must be a directory"):
        TrafficLogSettings(root="s3://bucket/traffic", spool="s3://bucket/spool")
    assert TrafficLogSettings(root="s3://bucket/traffic", spool=str(tmp_path)).spool_path == tmp_path
