"""`tiltyard train digits`: a dense baseline and a convolutional network, published as two versions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras import layers

from jobs.conversion import IMAGE, ImageInput, Scaling, keras_source
from jobs.digits import LABELS, PREPROCESSING, Digits, Split
from jobs.measurement import Validation
from jobs.publish import Publication, Published, Report, publish
from models.errors import InvalidVersion
from models.store import Store

MODEL = "digits"
BATCH_SIZE = 32

Progress = Callable[[int, int, float], None]
"""Told (epoch, epochs, accuracy on the training digits) after each epoch."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One version: its layers between pixels in [0, 1] and class probabilities, and how it is trained.

    `augmentation` moves and turns the training pictures. A network that is less than `least_accuracy` right on the
    held-out digits is not published.
    """

    version: int
    name: str
    network: Callable[[], list[Any]]
    augmentation: Callable[[], list[Any]]
    epochs: int
    least_accuracy: float


def dense() -> list[Any]:
    """One hidden layer."""
    return [layers.Flatten(), layers.Dense(32, activation="relu")]


def convolutional() -> list[Any]:
    """Three convolutions, each followed by pooling."""
    convolutions = [
        layer
        for filters in (16, 32, 64)
        for layer in (layers.Conv2D(filters, 3, padding="same", activation="relu"), layers.MaxPooling2D())
    ]
    head = [layers.Flatten(), layers.Dropout(0.3), layers.Dense(64, activation="relu"), layers.Dropout(0.3)]
    return convolutions + head


def jitter() -> list[Any]:
    """Small shifts and turns, as handwriting has them."""
    return [
        layers.RandomTranslation(0.08, 0.08, fill_mode="constant"),
        layers.RandomRotation(0.03, fill_mode="constant"),
    ]


RECIPES = (
    Recipe(1, "dense baseline", dense, list, epochs=8, least_accuracy=0.93),
    Recipe(2, "convolutional network", convolutional, jitter, epochs=25, least_accuracy=0.985),
)


def train(store: Store, digits: Digits, recipe: Recipe, progress: Progress, report: Report) -> Published:
    """Train one network and publish it. Raises InvalidVersion where it is not accurate enough."""
    keras.utils.set_random_seed(0)
    model = fit(recipe, digits.training, progress)
    accuracy = float(model.evaluate(digits.held_out.pixels, digits.held_out.classes, verbose=0)[1])
    if accuracy < recipe.least_accuracy:
        raise InvalidVersion(
            f"the {recipe.name} is right on {accuracy:.1%} of the held-out digits, not on {recipe.least_accuracy:.1%}"
        )
    publication = Publication(
        model=MODEL,
        version=recipe.version,
        source=keras_source(model, Path(recipe.name)),
        image=ImageInput(PREPROCESSING, Scaling()),
        labels=LABELS,
        validation=Validation({IMAGE: digits.held_out.pixels}, digits.held_out.classes, digits.held_out.files),
        scaled_decode=PREPROCESSING.scaled_decode,  # as it was trained
        calibration={IMAGE: digits.training.pixels},
        data_sha256=digits.sha256,
    )
    return publish(store, publication, report)


def fit(recipe: Recipe, split: Split, progress: Progress) -> Any:
    """Train on the pixels that serving would see; return the network without its augmentation."""
    image = keras.Input(PREPROCESSING.shape, dtype="uint8", name=IMAGE)
    scaled = layers.Rescaling(1 / 255)(image)
    network = keras.Sequential([*recipe.network(), layers.Dense(len(LABELS), activation="softmax")], name="classes")
    augmented = scaled
    for layer in recipe.augmentation():
        augmented = layer(augmented)
    trained = keras.Model(image, network(augmented))
    served = keras.Model(image, network(scaled))
    served.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    trained.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    after_epoch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: progress(epoch + 1, recipe.epochs, logs["accuracy"])
    )
    trained.fit(split.pixels, split.classes, BATCH_SIZE, recipe.epochs, verbose=0, callbacks=[after_epoch])
    return served
