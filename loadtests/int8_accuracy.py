"""What int8 costs a MobileNetV2 that was really trained: on the digits, in colour, at 64 x 64. `make int8-accuracy`.

Trained from scratch in a few minutes, published with its held-out digits as labelled rows, printed as publish prints.
"""

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from jobs.printing import print_published
from jobs.tensorflow_import import import_tensorflow

import_tensorflow()

import keras  # noqa: E402
from keras import layers  # noqa: E402

from jobs import digits  # noqa: E402
from jobs.conversion import IMAGE, ImageInput, Scaling, keras_source  # noqa: E402
from jobs.measurement import Validation  # noqa: E402
from jobs.publish import Publication, publish  # noqa: E402
from models.preprocessing import Preprocessing, preprocess_all  # noqa: E402
from models.store import Store  # noqa: E402

SIDE, ALPHA, EPOCHS, FINE_EPOCHS = 64, 0.35, 10, 4
PREPROCESSING = Preprocessing(height=SIDE, width=SIDE)
SCALING = Scaling(scale=1 / 127.5, mean=(1.0,))


def large_jpegs(split: digits.Split) -> list[bytes]:
    """The same pictures as a camera would send them: three times as large, as JPEG."""

    def enlarged(file: bytes) -> bytes:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(file)).resize((3 * SIDE, 3 * SIDE)).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    return [enlarged(file) for file in split.files]


def trained(rows: npt.NDArray[np.uint8], classes: npt.NDArray[np.int64]) -> Any:
    """A MobileNetV2 on pixels in [-1, 1]."""
    keras.utils.set_random_seed(0)
    network = keras.applications.MobileNetV2((SIDE, SIDE, 3), ALPHA, weights=None, classes=len(digits.LABELS))
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # Keras's 0.999 needs ten thousand steps to learn the statistics
    scaled = SCALING.apply(rows, "float32")
    for learning_rate, epochs in ((2e-3, EPOCHS), (3e-4, FINE_EPOCHS)):
        network.compile(keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        network.fit(scaled, classes, 32, epochs, verbose=2)
    return network


def main() -> None:
    data = digits.load()
    training, held_out = (preprocess_all(each.files, PREPROCESSING) for each in (data.training, data.held_out))
    network = trained(training, data.training.classes)
    publication = Publication(
        model="mobilenetv2-digits",
        source=keras_source(network, Path("mobilenetv2-digits")),
        image=ImageInput(PREPROCESSING, SCALING),
        labels=digits.LABELS,
        validation=Validation({IMAGE: held_out}, data.held_out.classes, large_jpegs(data.held_out)),
        calibration={IMAGE: training},
    )
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(sys.argv[1] if len(sys.argv) > 1 else scratch)
        print_published(publish(store, publication, print).manifest)


if __name__ == "__main__":
    main()
