"""The models of the comparison: `python -m loadtests.recipes NAME` publishes one to the comparison's own store.

Nothing is downloaded, so the large networks are trained here, on digits: enough to say what int8 and scaled decoding
cost them in accuracy.
"""

import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from jobs import digits
from jobs.conversion import IMAGE, ImageInput, Scaling, keras_source
from jobs.measurement import Validation
from jobs.printing import print_published
from jobs.publish import Publication, publish
from loadtests.workloads import JPEG_SIZE, MLP_FEATURES, STORE
from models.preprocessing import Preprocessing, preprocess_all
from models.store import Store

SIDE = 224
PREPROCESSING = Preprocessing(height=SIDE, width=SIDE)
SCALING = Scaling(scale=1 / 127.5, mean=(1.0,))
SMALL = 64
CALIBRATION_ROWS = 64

Schedule = Sequence[tuple[float, int]]
"""Learning rates, and for how many epochs each."""


def large_jpegs(files: Sequence[bytes]) -> list[bytes]:
    """The digits as a camera would send them: 640 x 480, in colour, as JPEG."""

    def enlarged(file: bytes) -> bytes:
        buffer = io.BytesIO()
        picture = Image.open(io.BytesIO(file)).convert("RGB").resize(JPEG_SIZE, Image.Resampling.BICUBIC)
        picture.save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    return [enlarged(file) for file in files]


def digit_reader(build: Callable[..., Any], epochs: int, large: Schedule, data: digits.Digits) -> Any:
    """A network of keras.applications that reads digits.

    It is trained on small pictures, in minutes, and ends with some epochs of `large` ones.
    """
    import keras

    def sized(side: int) -> Any:
        network = build(weights=None, classes=len(digits.LABELS), input_shape=(side, side, 3))
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.9  # Keras's 0.99 and more need thousands of steps to learn the statistics
        return network

    def learn(network: Any, files: Sequence[bytes], batch: int, schedule: Schedule) -> None:
        height, width = network.input_shape[1:3]
        rows = SCALING.apply(preprocess_all(files, Preprocessing(height=height, width=width)), "float32")
        for learning_rate, count in schedule:
            optimizer = keras.optimizers.Adam(learning_rate)
            network.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
            network.fit(rows, data.training.classes, batch, count, verbose=2)

    keras.utils.set_random_seed(0)
    small, network = sized(SMALL), sized(SIDE)
    learn(small, data.training.files, 32, ((1e-3, epochs), (2e-4, epochs // 3)))
    network.set_weights(small.get_weights())
    learn(network, large_jpegs(data.training.files), 16, large)
    return network


def publish_digit_reader(name: str, build: Callable[..., Any], epochs: int, large: Schedule) -> None:
    """Publish a network that takes uint8 pictures of 224 x 224 pixels, judged by the digits it was not trained on.

    Version 1 is what every server serves: fp32, whole pictures decoded. Version 2 is what publish makes of it.
    """
    data = digits.load()
    held_out = large_jpegs(data.held_out.files)
    publication = Publication(
        model=name,
        version=1,
        source=keras_source(digit_reader(build, epochs, large, data), Path(name)),
        image=ImageInput(PREPROCESSING, SCALING),
        labels=digits.LABELS,
        artifact="onnx",
        golden={IMAGE: preprocess_all(held_out[:4], PREPROCESSING)},
        scaled_decode=False,
    )
    publish(Store(STORE), publication, print)
    publication = replace(
        publication,
        version=2,
        artifact=None,
        golden=None,
        scaled_decode=None,
        validation=Validation({IMAGE: preprocess_all(held_out, PREPROCESSING)}, data.held_out.classes, held_out),
        calibration={IMAGE: preprocess_all(large_jpegs(data.training.files[:CALIBRATION_ROWS]), PREPROCESSING)},
    )
    print_published(publish(Store(STORE), publication, print).manifest)


def publish_mlp() -> None:
    """Publish a small network on float32 rows [n, 16]."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(width, "relu") for width in (64, 64)]
    model = keras.Sequential([keras.Input((MLP_FEATURES,)), *layers, keras.layers.Dense(len(digits.LABELS), "softmax")])
    publish(Store(STORE), Publication(model="mlp", version=1, source=keras_source(model, Path("mlp"))), print)


def publish_digits() -> None:
    """Train and publish the convolutional network of `tiltyard train digits`."""
    from jobs.train import RECIPES, train

    recipe = next(each for each in RECIPES if each.name == "convolutional network")

    def progress(epoch: int, epochs: int, accuracy: float) -> None:
        print(f"epoch {epoch} of {epochs}: accuracy {accuracy:.3f}")

    train(Store(STORE), digits.load(), recipe, progress, print)


def main(name: str) -> None:
    from jobs.tensorflow_import import import_tensorflow

    import_tensorflow()
    import keras

    match name:
        case "mobilenetv2":
            publish_digit_reader(name, keras.applications.MobileNetV2, epochs=9, large=((3e-4, 4), (1e-4, 1)))
        case "resnet50":
            publish_digit_reader(name, keras.applications.ResNet50, epochs=5, large=((1e-4, 2),))
        case "digits":
            publish_digits()
        case "mlp":
            publish_mlp()
        case _:
            raise SystemExit(f"no recipe for {name!r}")


if __name__ == "__main__":
    main(sys.argv[1])
