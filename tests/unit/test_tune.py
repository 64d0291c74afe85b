import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from jobs import replica_pool
from jobs.frontier import Measured, Setting
from jobs.measured_replica import Load
from jobs.serve import default_interrupt
from jobs.tune import NO_TIME, batches, shapes, still_grows, tune
from models.errors import InvalidVersion, ModelUnavailable
from models.store import Store
from tests.processes import is_alive, parent, wait_for
from tests.tiny import affine, floats, put, save_onnx, shipped_config

ROOT = Path(__file__).parents[2]
BUDGET_S = 3.0


def children(of: int) -> list[int]:
    """Process ids of the replicas that a process measures."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if parent(int(process.name)) == of and b"measured_replica" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    put(store, "affine", affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3], [4, 5, 6], [7, 8, 9]])})
    return store


def order(store: Store, model: str = "affine") -> Load:
    return Load(store.root, model, 1, threads=1)


def ignore(share: float, what: str) -> None:
    pass


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, [(1, 1)]),
        (2, [(1, 1), (2, 1), (1, 2)]),
        (4, [(1, 1), (4, 1), (2, 2), (1, 4), (2, 1), (1, 2)]),
        (6, [(1, 1), (6, 1), (3, 2), (1, 6), (1, 4), (3, 1), (1, 2)]),
    ],
)
def test_shapes_divide_the_machine(cores: int, expected: list[tuple[int, int]]) -> None:
    assert shapes(cores) == expected


@pytest.mark.parametrize("cores", [3, 8, 12, 64, 96, 192])
def test_no_shape_has_more_threads_than_cores(cores: int) -> None:
    assert all(replicas * threads <= cores for replicas, threads in shapes(cores))
    assert shapes(cores)[:2] == [(1, 1), (cores, 1)]
    assert (1, cores) in shapes(cores)
    assert len(shapes(cores)) == len(set(shapes(cores))) <= 17


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        pytest.param([], True, id="nothing measured"),
        pytest.param([100, 200], True, id="rises"),
        pytest.param([100, 200, 201], True, id="one may be chance"),
        pytest.param([100, 200, 201, 150], False, id="two are not"),
        pytest.param([100, 200, 150, 260], True, id="it rose after all"),
    ],
)
def test_batches_grow_while_throughput_rises(rates: list[float], expected: bool) -> None:
    measured = [Measured(Setting(1, 1, 2**n), rate, 1, 1, 0) for n, rate in enumerate(rates)]
    assert still_grows(measured, 1000) is expected


def test_batches_stop_growing_before_they_take_too_long() -> None:
    assert still_grows([Measured(Setting(1, 1, 1), 10, 49, 60, 0)], 100)
    assert not still_grows([Measured(Setting(1, 1, 1), 10, 51, 60, 0)], 100)


def test_a_fixed_batch_is_the_only_one() -> None:
    assert batches(8) == (8,)


def test_a_version_is_measured_within_its_time(filled: Store) -> None:
    told: list[tuple[float, str]] = []
    started = time.monotonic()
    tuning = tune(order(filled), 2, 2 * BUDGET_S, None, lambda share, what: told.append((share, what)))
    assert time.monotonic() - started < 2 * BUDGET_S + 5
    assert {(m.setting.replicas, m.setting.threads) for m in tuning.measured} == set(shapes(2))
    assert all(m.rows_per_s > 0 and 1 <= m.p50_ms <= m.p99_ms and m.replica_bytes > 2**20 for m in tuning.measured)
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[0][1] == "loading 1 replica x 1 thread"
    assert any(what.startswith("round 2: ") for _, what in told)
    assert children(os.getpid()) == []


def test_the_call_is_counted_with_each_batch(filled: Store) -> None:
    tuning = tune(order(filled), 1, BUDGET_S, None, ignore, call_ms=20)
    rates = {m.setting.batch: m.rows_per_s for m in tuning.measured}
    assert 30 < rates[1] <= 50, "one row in 20 ms and a little"
    assert rates[2] == pytest.approx(2 * rates[1], rel=0.3)


def test_a_model_of_a_fixed_batch_runs_that(store: Store, tmp_path: Path) -> None:
    put(store, "affine", affine(tmp_path / "affine.onnx", rows=4), {"x": np.ones((4, 3), np.float32)})
    tuning = tune(order(store), 1, BUDGET_S, None, ignore)
    assert [m.setting for m in tuning.measured] == [Setting(1, 1, 4)]


def test_a_plain_tree_is_measured_with_zeros(store: Store) -> None:
    affine(store.root / "affine" / "1" / "model.onnx")
    assert tune(order(store), 1, BUDGET_S, None, ignore).measured


def test_batches_that_do_not_work_are_left_out(store: Store, tmp_path: Path) -> None:
    source = save_onnx(
        tmp_path / "flat.onnx",
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [("x", TensorProto.FLOAT, ("batch", 2))],
        [("y", TensorProto.FLOAT, ("batch", 2))],
        {"shape": np.array([2, 2], np.int64)},  # says any batch, takes two
    )
    put(store, "affine", source, {"x": floats([[1, 2], [3, 4]])})
    tuning = tune(order(store), 1, BUDGET_S, None, ignore)
    assert [m.setting.batch for m in tuning.measured] == [2]
    assert "1 replica x 1 thread, batches of 1" in tuning.left_out


def test_a_version_that_cannot_be_loaded_says_why(filled: Store) -> None:
    path = filled.root / "affine" / "1" / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(InvalidVersion, match="affine version 1: .*changed"):
        tune(order(filled), 2, BUDGET_S, None, ignore)
    assert children(os.getpid()) == []


def test_two_shapes_are_compared_however_little_time_there_is(filled: Store) -> None:
    tuning = tune(order(filled), 4, 0.01, None, ignore)
    assert sorted((m.setting.batch, m.setting.replicas) for m in tuning.measured) == [(1, 1), (1, 4), (2, 1), (2, 4)]
    assert tuning.rounds == 2
    assert (4, 1) in tuning.unfinished
    assert tuning.left_out["1 replica x 4 threads"] == NO_TIME
    assert tuning.left_out["4 replicas x 1 thread, batches of 4 and more"] == NO_TIME


def test_replicas_that_memory_does_not_hold_are_left_out(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_pool, "available_bytes", lambda: 300 * 2**20)  # one replica with what Ray adds
    tuning = tune(order(filled), 2, 5 * BUDGET_S, None, ignore)
    assert tuning.left_out["2 replicas x 1 thread"] == "memory does not suffice"
    assert {m.setting.replicas for m in tuning.measured} == {1}
    assert {m.setting.threads for m in tuning.measured} == {1, 2}


def test_a_process_that_dies_ends_the_others(filled: Store) -> None:
    def kill_one(share: float, what: str) -> None:
        if what.startswith("round 1: 2 replicas"):
            os.kill(children(os.getpid())[-1], signal.SIGKILL)
            time.sleep(0.1)

    with pytest.raises(ModelUnavailable, match="killed by signal 9: out of memory, perhaps"):
        tune(order(filled), 2, BUDGET_S, None, kill_one)
    assert children(os.getpid()) == []


def test_an_interruption_ends_them_all(filled: Store) -> None:
    def interrupt(share: float, what: str) -> None:
        if what.startswith("round 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(order(filled), 2, BUDGET_S, None, interrupt)
    assert children(os.getpid()) == []


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("tiltyard")), "tune", *arguments]
    return subprocess.Popen(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=default_interrupt,  # tests that run in the background ignore SIGINT, and so would this
    )


def tiltyard(*arguments: str, cwd: Path, answer: str = "") -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("tiltyard")), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120, input=answer)


@pytest.fixture
def project(tmp_path: Path, filled: Store) -> Path:
    """A directory with a serve_config.yaml in which affine is deployed."""
    shipped_config(tmp_path, filled)
    done = tiltyard("deploy", "affine", "--store", str(filled.root), "--address", "http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


QUICK = ("--budget-s", "8")


def test_the_file_is_written_when_asked_to(project: Path, filled: Store) -> None:
    path = project / "serve_config.yaml"
    before = path.read_text()
    tune_affine = ("tune", "affine", "--store", str(filled.root), *QUICK)
    refused = tiltyard(*tune_affine, cwd=project, answer="n\n")
    assert refused.returncode == 0, refused.stderr
    assert "Nothing was written." in refused.stdout
    assert path.read_text() == before
    done = tiltyard(*tune_affine, "--yes", cwd=project)
    assert done.returncode == 0, done.stderr
    for part in ("MiB each", "chosen", "Chosen: ", "+        user_config: {max_batch_size:", "serve deploy"):
        assert part in done.stdout
    assert "max_batch_size: " in path.read_text().partition("name: affine-v1")[2]
    assert path.read_text().startswith(before.rstrip("\n"))


def test_a_target_out_of_reach_writes_nothing(project: Path, filled: Store) -> None:
    before = (project / "serve_config.yaml").read_text()
    options = ("--store", str(filled.root), "--yes", "--target-p99-ms", "0.5", *QUICK)
    done = tiltyard("tune", "affine", *options, cwd=project)
    assert done.returncode == 1
    assert "no setting keeps p99 within 0.5 ms on this machine" in done.stderr
    assert "rows/s" in done.stdout, "the frontier is shown all the same"
    assert (project / "serve_config.yaml").read_text() == before


def test_a_choice_that_was_not_found_in_time_writes_nothing(project: Path, filled: Store) -> None:
    before = (project / "serve_config.yaml").read_text()
    done = tiltyard("tune", "affine", "--store", str(filled.root), "--yes", "--budget-s", "1", cwd=project)
    assert done.returncode == 1
    assert "no time for them: give more --budget-s" in done.stderr
    assert (project / "serve_config.yaml").read_text() == before


def test_what_is_not_deployed_is_refused_before_it_is_measured(tmp_path: Path, filled: Store) -> None:
    shutil.copy(ROOT / "serve_config.yaml", tmp_path)
    done = tiltyard("tune", "affine@1", "--store", str(filled.root), cwd=tmp_path)
    assert done.returncode == 1
    assert "`tiltyard deploy affine@1` first" in done.stderr
    shown = tiltyard("tune", "affine", "--dry-run", "--store", str(filled.root), *QUICK, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "+  - name: affine-v1" in shown.stdout
    assert "tiltyard deploy affine@1 first" in shown.stdout
    assert (tmp_path / "serve_config.yaml").read_text() == (ROOT / "serve_config.yaml").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_a_stopped_command_leaves_no_process_and_no_change(project: Path, filled: Store, number: int) -> None:
    before = (project / "serve_config.yaml").read_text()
    with start("affine", "--store", str(filled.root), "--yes", "--budget-s", "60", cwd=project) as command:
        wait_for(lambda: len(children(command.pid)) >= 2, "no replica was started")
        pids = children(command.pid)
        command.send_signal(number)
        _, stderr = command.communicate(timeout=20)
    assert command.returncode not in (0, None)
    assert "Traceback" not in stderr
    wait_for(lambda: not any(map(is_alive, pids)), "replicas outlive the command")
    assert (project / "serve_config.yaml").read_text() == before
