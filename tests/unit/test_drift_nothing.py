"""Windows that can show nothing: no column in common, none that varies, too few unrelated rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.drift.examination import Window, examine
from jobs.drift.frame import Frame
from jobs.drift.job import _write_evidently
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
