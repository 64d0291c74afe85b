"""Digits as traffic, whole and spoilt in known ways, answered by the published version.

Held-out digits, each one moved and turned as in training (jobs/train.py), sent as PNG files through the same
preprocessing, features and ONNX artifact as in serving. One Parquet file a kind of traffic; written once.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from jobs import digits
from jobs.tensorflow_import import import_tensorflow
from loadtests.drift_names import BASE, CLEAN, SHIFTS, Dice, Pixels, Shift, pool_path
from models.backends import load_backend
from models.features import image_columns, image_features, sample
from models.prediction_columns import prediction_columns
from models.preprocessing import picture, to_tensor
from models.store import DEFAULT_ROOT, Store

MODEL, VERSION = "digits", 1


def write_pools(cache: Path, clean_rows: int, rows: int, show: Callable[[str], None], seed: int = 0) -> None:
    """Write what is not there yet."""
    cache.mkdir(parents=True, exist_ok=True)
    missing = [name for name in (CLEAN, *SHIFTS) if not pool_path(cache, name).exists()]
    if not missing:
        return
    import_tensorflow()
    data = digits.load().held_out
    held_out = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in data.files])
    for name in missing:
        show(f"{name}: digits are made and answered")
        dice = np.random.default_rng([seed, (CLEAN, *SHIFTS).index(name)])
        shift = SHIFTS.get(name, Shift())
        base = _drawn(data.classes, shift, clean_rows if name == CLEAN else rows, dice)
        pictures = (shift.picture(each, dice) for each in jittered(held_out[base], int(dice.integers(2**31))))
        table = answered([_png(each) for each in pictures])
        table = table.append_column("true_label", pa.array(data.classes[base].astype(str)))
        temporary = pool_path(cache, name).with_suffix(".tmp")
        pq.write_table(table.append_column(BASE, pa.array(base)), temporary)
        temporary.rename(pool_path(cache, name))


def _drawn(classes: npt.NDArray[np.int64], shift: Shift, rows: int, dice: Dice) -> npt.NDArray[np.int64]:
    weights = np.array([(shift.more_of or {}).get(int(each), 1.0) for each in classes])
    return dice.choice(len(classes), size=rows, p=weights / weights.sum())


def jittered(pictures: Pixels, seed: int) -> Pixels:
    """Moved and turned by the layers that training uses."""
    import keras

    from jobs.train import jitter

    keras.utils.set_random_seed(seed)
    parts = []
    for begin in range(0, len(pictures), 1000):
        values: Any = pictures[begin : begin + 1000, :, :, None].astype(np.float32)
        for layer in jitter():
            values = layer(values, training=True)
        parts.append(np.clip(np.round(np.asarray(values)), 0, 255).astype(np.uint8)[..., 0])
    return np.concatenate(parts)


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def answered(files: list[bytes]) -> pa.Table:
    """Features and outputs, as the log would remember them."""
    directory = Store(DEFAULT_ROOT).directory(MODEL, VERSION)
    backend = load_backend("onnx", directory / "model.onnx")
    manifest = Store(DEFAULT_ROOT).manifest(MODEL, VERSION)
    assert manifest is not None
    assert manifest.preprocessing is not None
    pictures = [picture(file, manifest.preprocessing) for file in files]
    name = manifest.signature.inputs[0].name
    pixels = np.stack([to_tensor(each, manifest.preprocessing) for each in pictures])
    outputs = prediction_columns(backend.run({name: pixels}), manifest.output, manifest.labels)
    features = image_columns([image_features(sample(each)) for each in pictures])
    return pa.table(
        {**{name: pa.array(values, from_pandas=True) for name, values in features.items()}, **outputs.arrow()}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--clean-rows", type=int, default=40_000)
    parser.add_argument("--rows", type=int, default=6_000)
    arguments = parser.parse_args()
    write_pools(arguments.cache, arguments.clean_rows, arguments.rows, print)


if __name__ == "__main__":
    main()
