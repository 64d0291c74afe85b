from typing import Any

import pytest

from jobs.compatibility import differences
from models.manifest import Artifact, Manifest
from models.preprocessing import Preprocessing
from models.signature import Signature, TensorSpec

X = TensorSpec(name="x", dtype="float32", shape=(None, 3))
Y = TensorSpec(name="y", dtype="float32", shape=(None, 2))


def manifest(inputs: TensorSpec = X, outputs: TensorSpec = Y, **more: Any) -> Manifest:
    return Manifest(
        **{
            "model": "m",
            "version": 1,
            "signature": Signature(inputs=(inputs,), outputs=(outputs,)),
            "output": "probabilities",
            "labels": ("a", "b"),
            "artifacts": (Artifact(kind="onnx", path="model.onnx", bytes=1),),
            "chosen": "onnx",
            "chosen_because": "",
            **more,
        }
    )


def spec(of: TensorSpec, **changed: Any) -> TensorSpec:
    return of.model_copy(update=changed)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(manifest(), id="the same"),
        pytest.param(manifest(spec(X, shape=(8, 3))), id="another batch size"),
        pytest.param(manifest(spec(X, shape=(None, None))), id="it takes more"),
        pytest.param(manifest(outputs=spec(Y, shape=(None, None))), id="the size of an output was forgotten"),
    ],
)
def test_a_stand_in_nobody_notices(other: Manifest) -> None:
    assert list(differences(manifest(), other)) == []


@pytest.mark.parametrize(
    ("other", "why"),
    [
        pytest.param(manifest(spec(X, name="z")), "its inputs are z, not x", id="input name"),
        pytest.param(manifest(outputs=spec(Y, name="z")), "its outputs are z, not y", id="output name"),
        pytest.param(manifest(spec(X, dtype="uint8")), "is uint8 [3] per instance, not float32 [3]", id="dtype"),
        pytest.param(manifest(spec(X, shape=(None, 4))), "input 'x' is float32 [4] per", id="row"),
        pytest.param(manifest(spec(X, shape=(None, 3, 1))), "input 'x' is float32 [3, 1] per", id="rank"),
        pytest.param(manifest(outputs=spec(Y, shape=(None, 5))), "output 'y' is float32 [5] per", id="output row"),
        pytest.param(
            manifest(preprocessing=Preprocessing(height=8, width=8)), "it takes images, not tensors", id="images"
        ),
        pytest.param(manifest(output="logits"), "it answers with logits, not probabilities", id="output kind"),
        pytest.param(manifest(labels=("b", "a")), "its labels are in another order", id="order of labels"),
        pytest.param(manifest(labels=("a", "c")), "'c' where the champion has 'b'", id="other labels"),
        pytest.param(manifest(labels=("a",)), "it has 1 labels, not 2", id="number of labels"),
        pytest.param(manifest(labels=None), "it has no labels, unlike the champion", id="no labels"),
    ],
)
def test_what_a_client_would_notice_is_said(other: Manifest, why: str) -> None:
    assert why in "; ".join(differences(manifest(), other))


def test_what_takes_less_cannot_stand_in() -> None:
    any_size = manifest(spec(X, shape=(None, None)))
    assert list(differences(any_size, manifest()))
