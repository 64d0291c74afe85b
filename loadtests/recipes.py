"""The models of the comparison: `python -m loadtests.recipes NAME` publishes one to the comparison's own store.

The convolutional networks for photographs have no trained weights (nothing is downloaded), but batch norms that fit
photographs and a last layer that tells them apart; with neither, every answer would be the same, and a server that
mixed its requests up would pass.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.conversion import IMAGE, ImageInput, Scaling, keras_source
from jobs.publish import Publication, publish
from loadtests.workloads import MLP_FEATURES, STORE
from models.preprocessing import Preprocessing
from models.store import Store

SIDE = 224
CROPS = 16
CLASSES = 10


def photograph_crops(count: int = CROPS) -> npt.NDArray[np.uint8]:
    """Pieces of scikit-learn's sample photographs, uint8 [count, 224, 224, 3]."""
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    pictures = load_sample_images().images
    crops = []
    for index in range(count):
        picture = pictures[index % len(pictures)]
        y, x = (int(generator.integers(0, size - SIDE)) for size in picture.shape[:2])
        crops.append(picture[y : y + SIDE, x : x + SIDE])
    return np.asarray(crops, np.uint8)


def photograph_network(build: Callable[..., Any], crops: npt.NDArray[np.uint8]) -> Any:
    """A network of keras.applications on pixels in [0, 1], calibrated on the crops."""
    import keras

    keras.utils.set_random_seed(0)
    model = build(weights=None)
    batch = crops.astype(np.float32) / 255
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # keep nothing of the initial statistics, which are far from the real ones
    model(batch, training=True)
    features = keras.Model(model.input, model.layers[-2].output)(batch, training=False).numpy()
    kernel = np.random.default_rng(0).standard_normal((features.shape[1], 1000)).astype(np.float32)
    kernel *= 2 / features.std(axis=0).mean() / np.sqrt(len(kernel))
    model.layers[-1].set_weights([kernel, -(features.mean(axis=0) @ kernel)])
    return model


def publish_photograph_network(name: str, build: Callable[..., Any]) -> None:
    """Publish a network that takes uint8 photographs of 224 x 224 pixels."""
    crops = photograph_crops()
    publication = Publication(
        model=name,
        version=1,
        source=keras_source(photograph_network(build, crops), Path(name)),
        image=ImageInput(Preprocessing(height=SIDE, width=SIDE), Scaling(scale=1 / 255)),
        golden={IMAGE: crops[:4]},
    )
    publish(Store(STORE), publication, print)


def publish_mlp() -> None:
    """Publish a small network on float32 rows [n, 16]."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(width, "relu") for width in (64, 64)]
    model = keras.Sequential([keras.Input((MLP_FEATURES,)), *layers, keras.layers.Dense(CLASSES, "softmax")])
    publish(Store(STORE), Publication(model="mlp", version=1, source=keras_source(model, Path("mlp"))), print)


def publish_digits() -> None:
    """Train and publish the convolutional network of `tiltyard train digits`."""
    from jobs.digits import load
    from jobs.train import RECIPES, train

    recipe = next(each for each in RECIPES if each.name == "convolutional network")

    def progress(epoch: int, epochs: int, accuracy: float) -> None:
        print(f"epoch {epoch} of {epochs}: accuracy {accuracy:.3f}")

    train(Store(STORE), load(), recipe, progress, print)


def main(name: str) -> None:
    from jobs.tensorflow_import import import_tensorflow

    import_tensorflow()
    import keras

    match name:
        case "mobilenetv2":
            publish_photograph_network(name, keras.applications.MobileNetV2)
        case "resnet50":
            publish_photograph_network(name, keras.applications.ResNet50)
        case "digits":
            publish_digits()
        case "mlp":
            publish_mlp()
        case _:
            raise SystemExit(f"no recipe for {name!r}")


if __name__ == "__main__":
    main(sys.argv[1])
