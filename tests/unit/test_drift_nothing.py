"""Windows that can show nothing: no column in common, none that varies, too few unrelated rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.drift.change import _is_blind
from jobs.drift.examination import Window, examine
from jobs.drift.frame import Frame
from jobs.drift.job import _write_evidently
from jobs.drift.thresholds import Threshold
from jobs.drift.two_sample import separate
from tests.drift_frames import outputs

RELATED = ("time", "key_id", "request_id", "status")


def test_columns_that_do_not_vary_tell_nothing_apart() -> None:
    same = np.ones((600, 2))
    assert separate(same, same, np.arange(600), np.arange(600)) is None
    frame = Frame(pa.table({"status": ["ok"] * 600, "confidence": [1.0] * 600, "label": ["a"] * 600}))
    found = examine(frame, Window(frame))
    assert (found.tiers[1].severity, len(found.tiers[1].findings)) == ("ok", 2)


def test_nothing_in_common_is_not_called_alike(tmp_path: Path) -> None:
    def evidently(_: object) -> dict[str, dict[str, float]]:
        raise AssertionError("it cannot do without a column")

    reference = outputs(1000, np.random.default_rng(0))
    window = Frame(reference.table.select(RELATED).append_column("input_x", pa.array(np.arange(1000.0))))
    found = examine(reference, Window(window), evidently)
    assert found.tiers[1].severity == found.severity == "unknown"
    assert "Nothing can be compared" in found.words
    assert "as in the reference" not in found.words
    assert _write_evidently(reference, window, found, tmp_path, lambda _: None) is None
    assert list(tmp_path.iterdir()) == []


def test_one_client_with_one_scene_is_not_called_as_in_the_reference() -> None:
    dice = np.random.default_rng(1)
    reference = Frame(outputs(1500, dice).table.drop_columns(["time", "key_id"]))
    bursts = [examine(reference, Window(outputs(1000, np.random.default_rng(seed), 0, 100))) for seed in range(4)]
    for found in bursts:
        assert found.change is not None
        assert found.change.independent < 30
        assert found.tiers[1].severity != "ok"
    unseen = [found for found in bursts if found.tiers[1].severity == "unknown"]
    assert unseen
    assert all("Too few unrelated rows to tell" in found.words and found.severity == "unknown" for found in unseen)
    assert examine(reference, Window(outputs(1000, dice))).tiers[1].severity == "ok"
    assert examine(reference, Window(outputs(1000, dice, 8, 100))).tiers[1].severity in ("warning", "critical")


def test_limits_that_nothing_reaches_tell_nothing() -> None:
    beyond, within = Threshold(0.6, 0.8, 0.6), Threshold(0.3, 0.8, 0.3)
    assert _is_blind({("a", "psi"): beyond, ("b", "jensenshannon"): beyond})
    assert not _is_blind({("a", "psi"): beyond, ("b", "jensenshannon"): within})
    assert not _is_blind({})
