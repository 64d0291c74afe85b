"""How far values agree that are no classes."""

import pytest

from deployments.agreement import compare
from deployments.messages import Answer, Timing
from models.manifest import Artifact, Manifest
from models.signature import Signature, TensorSpec
from tests.tiny import floats

Y = TensorSpec(name="y", dtype="float32", shape=(None, 2))
MANIFEST = Manifest(
    model="prices",
    version=1,
    signature=Signature(inputs=(Y,), outputs=(Y,)),
    output="tensors",
    artifacts=(Artifact(kind="onnx", path="model.onnx", bytes=1),),
    chosen="onnx",
    chosen_because="the only artifact",
)


def answer(*rows: list[float]) -> Answer:
    return Answer({"y": floats(list(rows))}, Timing())


@pytest.mark.parametrize(
    ("tolerance", "agree"), [(None, [True, False]), (0.0, [False, False]), (0.05, [True, True])], ids=str
)
def test_values_agree_within_the_tolerance(tolerance: float | None, agree: list[bool]) -> None:
    champion, other = answer([1.0, 2.0], [1.0, 2.0]), answer([1.0005, 2.0], [1.0, 2.1])
    found = compare(champion, other, MANIFEST, tolerance)
    assert [each.agrees for each in found] == agree
    assert found[1].max_difference == pytest.approx(0.1, abs=1e-6)
