"""A traffic log of many rows, as if digits had been served for days: what reading and compacting them is measured on.

A pool of records goes through the log's own code (rows of records, spool, appending); every further row is one of the
pool with noise, another time and another request id. Every chunk is a Router's file, every `--files` of them an append.

    python -m loadtests.traffic_rows /var/tmp/rows --rows 10000000
"""

import argparse
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from deployments.messages import Answer, Timing
from deployments.question import Variant
from deployments.traffic_record import Record
from deployments.traffic_rows import prediction_rows
from jobs.traffic_append import alone, append_spooled
from models.features import ImageFeatures
from models.manifest import Artifact, Manifest
from models.signature import Signature, TensorSpec
from models.traffic import IMAGE, OK
from models.traffic_spool import SpoolWriter, Stream
from models.traffic_spooled import Spool
from models.traffic_tables import TrafficTables

CLASSES, EMBEDDING = 10, 32
CHALLENGER_SHARE = 0.1
_DAY_US = 86_400_000_000


def main() -> None:
    """Write them and say how far it is."""
    options = _options()
    rng = np.random.default_rng(options.seed)
    tables, spool = TrafficTables(str(options.root)), Spool(options.root / ".spool")
    stream = Stream("predictions", options.model)
    pool = _pool(options.model, options.pool, rng)
    writer = SpoolWriter(spool.path)
    slot = writer.ledger.slot(stream.name)
    end, began, written = datetime.now(UTC), time.monotonic(), 0
    while written < options.rows:
        for _ in range(options.files):
            count = min(options.chunk, options.rows - written)
            if not count:
                break
            start = end - timedelta(days=options.days) * (1 - written / options.rows)
            span_s = options.days * 86_400 * count / options.rows
            slot.add("accepted", count)
            writer.write(stream, _chunk(pool, count, written, writer.name, start, span_s, rng))
            written += count
        with alone(spool):
            append_spooled(tables, spool, {})
        print(f"{written:,} of {options.rows:,} rows, {time.monotonic() - began:.0f} s", flush=True)
    writer.close()
    with alone(spool):
        append_spooled(tables, spool, {})


def _pool(model: str, count: int, rng: np.random.Generator) -> pa.Table:
    """Rows of records of both versions, in the champion's and the challenger's shares."""
    challenged = int(count * CHALLENGER_SHARE)
    records = [_record(model, 1, "champion", rng) for _ in range(count - challenged)]
    records += [_record(model, 2, "challenger", rng) for _ in range(challenged)]
    return prediction_rows(records, "pool", 0).combine_chunks()


def _record(model: str, version: int, role: str, rng: np.random.Generator) -> Record:
    """A digit: small, grey, dark at its edges, mostly recognised."""
    scores = rng.normal(0, 1, CLASSES)
    scores[rng.integers(CLASSES)] += rng.gamma(9, 1)
    probabilities = np.exp(scores) / np.exp(scores).sum()
    brightness = float(np.clip(rng.normal(0.31, 0.04), 0, 1))
    features = ImageFeatures(
        width=8.0,
        height=8.0,
        aspect=1.0,
        bytes=float(rng.integers(95, 150)),
        format="PNG",
        brightness=brightness,
        contrast=float(rng.normal(0.38, 0.02)),
        sharpness=float(rng.gamma(20, 0.02)),
        saturation=0.0,
        dark_share=float(rng.integers(25, 42)) / 64,
        clipped_share=float(rng.integers(20, 45)) / 64,
        red=brightness,
        green=brightness,
        blue=brightness,
    )
    answer = Answer(
        {"probabilities": probabilities.astype(np.float32)[None]},
        Timing(*rng.gamma(2, 1, 4)),
        embedding=rng.normal(0, 1, (1, EMBEDDING)).astype(np.float16),
        features=features,
    )
    return Record(
        time=0.0,
        request_id="",
        item=0,
        rows=1,
        variant=Variant(model, version, role),  # type: ignore[arg-type]
        manifest=MANIFESTS[version],
        status=OK,
        answer=answer,
        key_id=f"{rng.integers(50):08x}",
        weight=1.0,
        total_ms=float(rng.gamma(4, 1)),
        features=features,
        is_image=True,
        keeps_input=False,
        image=None,
        tensors=None,
    )


def _chunk(
    pool: pa.Table, count: int, first: int, writer: str, start: datetime, span_s: float, rng: np.random.Generator
) -> pa.Table:
    """Rows of the pool, drawn at random, in a span of time."""
    rows = pool.take(rng.integers(len(pool), size=count))
    times = int(start.timestamp() * 1e6) + np.sort(rng.integers(int(span_s * 1e6), size=count))
    ids = rng.bytes(8 * count).hex()
    new: dict[str, pa.Array] = {
        "writer": pa.repeat(pa.scalar(writer), count),
        "sequence": pa.array(np.arange(first, first + count)),
        "time": pa.array(times).cast(pa.timestamp("us", tz="UTC")),
        "day": pa.array((times // _DAY_US).astype(np.int32)).cast(pa.date32()),
        "request_id": pa.array([ids[at : at + 16] for at in range(0, 16 * count, 16)]),
        "probabilities": _noisy_lists(rows["probabilities"].combine_chunks(), rng),
        "embedding": _noisy_embeddings(rows["embedding"], rng),
    }
    for name in rows.column_names:
        if name not in new and pa.types.is_floating(rows[name].type) and not name.startswith(("weight", IMAGE + "w")):
            noise = rng.normal(1, 1e-3, count).astype(np.float32)
            new[name] = pa.array(rows[name].to_numpy() * noise, pa.float32(), from_pandas=True)
    for name, column in new.items():
        rows = rows.set_column(rows.column_names.index(name), rows.field(name), column)
    return rows


def _noisy_lists(lists: pa.ListArray, rng: np.random.Generator) -> pa.ListArray:
    values = lists.flatten().to_numpy().reshape(-1, CLASSES) * rng.normal(1, 1e-3, (len(lists), CLASSES))
    values = (values / values.sum(axis=1, keepdims=True)).astype(np.float32)
    offsets = np.arange(len(lists) + 1, dtype=np.int32) * CLASSES
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1)))


def _noisy_embeddings(column: pa.ChunkedArray, rng: np.random.Generator) -> pa.Array:
    values: npt.NDArray[np.float16] = np.frombuffer(b"".join(column.to_pylist()), np.float16)
    noisy = values + rng.normal(0, 0.05, len(values)).astype(np.float16)
    size = 2 * EMBEDDING
    data = pa.py_buffer(noisy.astype("<f2").tobytes())
    offsets = pa.py_buffer((np.arange(len(column) + 1, dtype=np.int32) * size).tobytes())
    return pa.Array.from_buffers(pa.binary(), len(column), [None, offsets, data])


def _manifest(version: int) -> Manifest:
    image = TensorSpec(name="image", dtype="uint8", shape=(None, 8, 8, 1))
    probabilities = TensorSpec(name="probabilities", dtype="float32", shape=(None, CLASSES))
    return Manifest(
        model="digits",
        version=version,
        signature=Signature(inputs=(image,), outputs=(probabilities,)),
        output="probabilities",
        labels=tuple(map(str, range(CLASSES))),
        artifacts=(Artifact(kind="onnx", path="model.onnx", bytes=1),),
        chosen="onnx",
        chosen_because="the only artifact",
    )


MANIFESTS = {version: _manifest(version) for version in (1, 2)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="where the log is to be")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=float, default=12.0, help="the last of them ends now")
    parser.add_argument("--model", default="digits")
    parser.add_argument("--chunk", type=int, default=100_000, help="rows of a file in the spool")
    parser.add_argument("--files", type=int, default=1, help="files of an append")
    parser.add_argument("--pool", type=int, default=20_000, help="records that all rows come from")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
