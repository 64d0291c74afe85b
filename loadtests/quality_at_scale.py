"""Import 100,000 labels into traffic of a million predictions, and hold the quality against scikit-learn's.

    python -m loadtests.quality_at_scale [--predictions 1000000] [--labels 100000]

Exits 1 where the import takes 10 s or longer, or a number differs.
"""

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from jobs.estimates import Floats
from jobs.feedback_import import import_labels
from jobs.labelled import labelled
from jobs.quality import VariantQuality, quality
from models.traffic import OK, PREDICTIONS, SCHEMA_VERSION
from models.traffic_tables import TrafficTables

MODEL = "digits"
CLASSES = 10
DAYS = 30
MOST_IMPORT_S = 10.0
CHUNK = 100_000


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--predictions", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=100_000)
    options = parser.parse_args(arguments)
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as directory:
        tables = TrafficTables(f"{directory}/traffic")
        path = Path(directory, "labels.csv")
        with timed(f"write {options.predictions:,} predictions"):
            truth = write_traffic(tables, options.predictions, now)
        write_labels(path, truth, options.labels)
        with timed(f"import {options.labels:,} labels") as spent:
            done = import_labels(tables, path, datetime.now(UTC), False, lambda _: None)
        assert (done.requests, done.unknown) == (options.labels, 0), done
        with timed("import the same file again"):
            assert import_labels(tables, path, datetime.now(UTC), False, lambda _: None).repeated
        since = now - timedelta(days=DAYS + 1)
        with timed("quality of 30 days"):
            found = quality(tables, MODEL, since, now)
        with timed("scikit-learn on the same join"):
            worst = max(difference(each, labelled(tables, MODEL, since, now)) for each in found.variants)
    labels = sum(each.labels for each in found.variants)
    print(f"{labels:,} labelled predictions; largest difference from scikit-learn: {worst:.1e}")
    return int(spent[0] >= MOST_IMPORT_S or worst > 1e-9 or labels < options.labels)


@contextmanager
def timed(what: str) -> Iterator[list[float]]:
    spent = [0.0]
    start, before = time.perf_counter(), time.process_time()
    yield spent
    spent[0] = time.perf_counter() - start
    print(f"{what}: {spent[0]:.2f} s, {time.process_time() - before:.2f} s of CPU", flush=True)


def write_traffic(tables: TrafficTables, count: int, now: datetime) -> list[tuple[str, str]]:
    """A champion, and a challenger with a tenth of the traffic; half of it is logged. Gives request ids and truths."""
    random = np.random.default_rng(0)
    known: list[tuple[str, str]] = []
    for part, first in enumerate(range(0, count, CHUNK)):
        rows = min(CHUNK, count - first)
        truth = random.integers(0, CLASSES, rows)
        confidence = 1 - random.beta(1, 8, rows)
        said = np.where(random.random(rows) < confidence, truth, random.integers(0, CLASSES, rows))
        is_challenger = random.random(rows) < 0.1
        age_us = np.sort(random.integers(0, DAYS * 86_400_000_000, rows))[::-1]
        times = pa.array(int(now.timestamp() * 1e6) - age_us).cast(pa.timestamp("us", "UTC"))
        ids = [random.bytes(16).hex() for _ in range(rows)]
        columns = {
            "schema_version": pa.repeat(SCHEMA_VERSION, rows),
            "writer": pa.repeat(f"writer-{part}", rows),
            "sequence": pa.array(range(rows)),
            "time": times,
            "day": times.cast(pa.date32()),
            "request_id": pa.array(ids),
            "item": pa.repeat(0, rows),
            "model": pa.repeat(MODEL, rows),
            "version": pa.array(1 + is_challenger),
            "variant": pc.if_else(pa.array(is_challenger), "challenger", "champion"),
            "cache_hit": pa.repeat(False, rows),
            "status": pa.repeat(OK, rows),
            "weight": pa.repeat(2.0, rows),
            "label": pa.array(said).cast(pa.string()),
            "confidence": pa.array(confidence),
            "margin": pa.array(2 * confidence - 1),
        }
        present = pa.schema([field for field in PREDICTIONS if field.name in columns])
        table = pa.table([columns[field.name].cast(field.type) for field in present], schema=present)
        tables.predictions(MODEL).append(table)
        known += zip(ids, map(str, truth.tolist()), strict=True)
    return known


def write_labels(path: Path, truth: Sequence[tuple[str, str]], count: int) -> None:
    chosen = np.random.default_rng(1).choice(len(truth), count, replace=False)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["request_id", "label"])
        writer.writerows(truth[number] for number in chosen)


def difference(of: VariantQuality, rows: pa.Table) -> float:
    """The largest one between a version's numbers and scikit-learn's, counts as shares."""
    rows = rows.filter(pc.and_(pc.equal(rows["version"], of.version), pc.equal(rows["variant"], of.variant)))
    weight, names = rows["weight"].to_numpy(), [each.name for each in of.classes]
    arrays = {"y_true": rows["true_label"].to_pylist(), "y_pred": rows["label"].to_pylist(), "sample_weight": weight}
    assert of.accuracy is not None
    assert of.calibration is not None
    errors = [of.accuracy.value - accuracy_score(**arrays)]
    mine = np.zeros((len(names), len(names)))
    for each in of.confusion:
        mine[names.index(each.true), names.index(each.said)] = each.weight
    errors += ((mine - confusion_matrix(**arrays, labels=names)) / weight.sum()).ravel().tolist()
    theirs = precision_recall_fscore_support(**arrays, labels=names)
    shares = np.array([[each.precision, each.recall, each.f1] for each in of.classes]).T
    errors += (shares - np.array(theirs[:3])).ravel().tolist()
    confidence = rows["confidence"].cast(pa.float64()).to_numpy()
    right = np.array(arrays["y_true"]) == np.array(arrays["y_pred"])
    errors.append(of.calibration.ece - expected_calibration_error(confidence, right, weight))
    return float(np.abs(errors).max())


def expected_calibration_error(confidence: Floats, right: npt.NDArray[np.bool_], weight: Floats) -> float:
    """Straight from its definition, ten bins."""
    total = 0.0
    for number in range(10):
        inside = (confidence > number / 10) & (confidence <= (number + 1) / 10)
        total += abs(float((weight * (right - confidence))[inside].sum()))
    return total / float(weight.sum())


if __name__ == "__main__":
    sys.exit(main())
