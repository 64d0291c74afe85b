"""`tiltyard publish`: a model someone made becomes an immutable version in the store."""

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.conversion import (
    IMAGE,
    ImageInput,
    Source,
    convert_to_onnx,
    wrapped_inputs,
    write_onnx,
    write_savedmodel,
)
from models.backends import Backend, load_backend
from models.classification import kind_of_output
from models.errors import ConversionFailed, InvalidRequest, InvalidVersion, ModelFailed
from models.golden import check_golden, check_rows, largest_difference, read_arrays, write_golden
from models.manifest import Artifact, ArtifactKind, Manifest, OutputKind, Provenance
from models.signature import Signature, Tensors, TensorSpec
from models.store import Store, sha256, size
from models.version import image_preprocessing

GOLDEN_ROWS = 4
LATENCY_BUDGET_S = 1.0
LATENCY_RUNS = 100
LIBRARIES = ("tensorflow", "keras", "onnx", "onnxruntime", "tf2onnx", "numpy", "pillow")

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Validation:
    """Labelled inputs: rows by input name, and the index of the right class of each row."""

    inputs: Tensors
    classes: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Publication:
    """What is to be published. `version` None is the next number; `artifact` None is the fastest that is right."""

    model: str
    source: Source
    image: ImageInput | None = None
    version: int | None = None
    labels: tuple[str, ...] | None = None
    artifact: ArtifactKind | None = None
    golden: Tensors | None = None
    validation: Validation | None = None
    data_sha256: str | None = None

    @property
    def wrapping(self) -> ImageInput | None:
        """What goes into the graph; None where the model takes tensors, or uint8 pixels as they come."""
        if self.image is None or self.image.fits(self.source.signature.inputs[0]):
            return None
        return self.image


@dataclass(frozen=True, slots=True)
class Published:
    """The version, and the artifacts that were tried and left out with the reason."""

    manifest: Manifest
    left_out: Mapping[str, str]


def publish(store: Store, publication: Publication, report: Report) -> Published:
    """Write, compare, measure, choose, commit. `report` is told what is being done.

    Raises InvalidVersion, VersionExists, InvalidRequest, InvalidTensor (golden inputs that do not fit).
    """
    validation = publication.validation
    report("running the golden inputs")
    inputs = _golden_inputs(publication)
    expected = _run_source(publication, inputs)
    output = kind_of_output(list(expected.values()), publication.labels is not None)
    _check_labels(publication.labels, expected, output != "tensors")
    with store.stage(publication.model) as staging:
        left_out = _write_artifacts(staging, publication, report)
        measured: dict[ArtifactKind, tuple[Artifact, Signature]] = {}
        for kind, path in _written(staging).items():
            report(f"comparing and timing {kind}")
            try:
                backend = load_backend(kind, path)
                measured[kind] = _measure(path, kind, backend, inputs, expected, validation), backend.signature
            except (InvalidVersion, ModelFailed) as error:
                left_out[kind] = str(error)
                _remove(path)
        artifacts = [artifact for artifact, _ in measured.values()]
        chosen, because = choose(artifacts, publication.artifact, left_out)
        write_golden(staging, inputs, expected)
        report("writing to the store")
        manifest = _manifest(publication, measured[chosen][1], output, artifacts, chosen, because)
        return Published(store.commit(staging, manifest, publication.version), left_out)


def choose(
    artifacts: Sequence[Artifact], wanted: ArtifactKind | None, left_out: Mapping[str, str]
) -> tuple[ArtifactKind, str]:
    """Pick the artifact that runs, and say why. Raises ConversionFailed where none, or not the wanted one, is there."""
    reasons = "; ".join(f"{kind}: {why}" for kind, why in left_out.items())
    if not artifacts:
        raise ConversionFailed(f"no artifact reproduces the model ({reasons})")
    if wanted is not None:
        if wanted not in {artifact.kind for artifact in artifacts}:
            raise ConversionFailed(
                f"artifact {wanted} is not there ({reasons or 'the source cannot be converted to it'})"
            )
        return wanted, "asked for"
    if len(artifacts) == 1:
        return artifacts[0].kind, "the only artifact"
    fastest = min(artifacts, key=lambda artifact: artifact.latency_ms or 0.0)
    others = ", ".join(f"{a.kind} {a.latency_ms:.2f} ms" for a in artifacts if a is not fastest)
    return fastest.kind, f"fastest that reproduces the model: {fastest.latency_ms:.2f} ms against {others}"


def read_inputs(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read golden inputs from an .npz file. Raises InvalidRequest."""
    try:
        return read_arrays(path)
    except ValueError as error:
        raise InvalidRequest(f"{path}: expected an .npz file with one array per input: {error}") from None


def _write_artifacts(staging: Path, publication: Publication, report: Report) -> dict[str, str]:
    source, image = publication.source, publication.wrapping
    if source.kind == "onnx":
        report("writing the ONNX artifact")
        write_onnx(source, image, staging / "model.onnx")
        return {"savedmodel": "an ONNX model is not converted to TensorFlow"}
    report("writing the SavedModel artifact")
    write_savedmodel(source, image, staging / "saved_model")
    report("converting to ONNX")
    try:
        convert_to_onnx(staging / "saved_model", staging / "model.onnx")
    except ConversionFailed as error:
        (staging / "model.onnx").unlink(missing_ok=True)
        return {"onnx": str(error)}
    return {}


def _written(staging: Path) -> dict[ArtifactKind, Path]:
    paths: dict[ArtifactKind, Path] = {"savedmodel": staging / "saved_model", "onnx": staging / "model.onnx"}
    return {kind: path for kind, path in paths.items() if path.exists()}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _measure(
    path: Path,
    kind: ArtifactKind,
    backend: Backend,
    inputs: Tensors,
    expected: Tensors,
    validation: Validation | None,
) -> Artifact:
    """Describe an artifact. Raises InvalidVersion where it does not do what the source does."""
    if {spec.name for spec in backend.signature.inputs} != set(inputs):
        raise InvalidVersion("its inputs have other names")
    outputs = backend.run(inputs)
    check_golden(expected, outputs)
    return Artifact(
        kind=kind,
        path=path.name,
        sha256=sha256(path),
        bytes=size(path),
        max_abs_diff=max(largest_difference(array, outputs[name]) for name, array in expected.items()),
        latency_ms=latency_ms(backend, inputs),
        accuracy=None if validation is None else accuracy(backend, validation),
    )


def latency_ms(backend: Backend, inputs: Tensors) -> float:
    """Median time of one row, after a warm-up; at most a second is spent on it.

    On one thread, unless TensorFlow has run in this process before, as it has after training.
    """
    rows = backend.signature.batch_size or 1
    row = {name: array[:rows] for name, array in inputs.items()}
    for _ in range(3):
        backend.run(row)
    times: list[float] = []
    stop = time.perf_counter() + LATENCY_BUDGET_S
    while len(times) < LATENCY_RUNS and (not times or time.perf_counter() < stop):
        started = time.perf_counter()
        backend.run(row)
        times.append((time.perf_counter() - started) * 1000)
    return float(np.median(times))


def accuracy(backend: Backend, validation: Validation) -> float:
    """Share of validation rows whose likeliest class is the right one."""
    outputs = next(iter(backend.run(validation.inputs).values()))
    return float((outputs.argmax(axis=1) == validation.classes).mean())


def _golden_inputs(publication: Publication) -> dict[str, npt.NDArray[Any]]:
    signature = Signature(inputs=wrapped_inputs(publication.source.signature, publication.wrapping), outputs=())
    if publication.golden is not None:
        return signature.check(publication.golden)
    if publication.validation is not None:
        return {name: array[:GOLDEN_ROWS] for name, array in publication.validation.inputs.items()}
    rows = signature.batch_size or GOLDEN_ROWS
    generator = np.random.default_rng(0)
    return {spec.name: _example(spec, rows, generator) for spec in signature.inputs}


def _example(spec: TensorSpec, rows: int, generator: np.random.Generator) -> npt.NDArray[Any]:
    """Plausible values of any model: pixels, small indices, a normal distribution."""
    shape = (rows, *(d or 8 for d in spec.shape[1:]))
    match spec.numpy_dtype.kind:
        case "O":
            return np.full(shape, "golden", object)
        case "b":
            return generator.integers(0, 2, shape).astype(bool)
        case "i" | "u":
            return generator.integers(0, 256 if spec.dtype == "uint8" else 2, shape).astype(spec.numpy_dtype)
        case _:
            return generator.standard_normal(shape).astype(spec.numpy_dtype)


def _run_source(publication: Publication, inputs: Tensors) -> Tensors:
    """What the model itself answers, with the scaling done outside of it: what every artifact is compared with."""
    source, image = publication.source, publication.wrapping
    if image is not None:
        spec = source.signature.inputs[0]
        inputs = {spec.name: image.scaling.apply(inputs[IMAGE], spec.dtype)}
    try:
        outputs = source.run(inputs)
    except ModelFailed as error:
        raise ConversionFailed(f"the model fails on the golden inputs; give some with --golden: {error}") from error
    check_rows(outputs, len(next(iter(inputs.values()))))
    return outputs


def _manifest(
    publication: Publication,
    signature: Signature,
    output: OutputKind,
    artifacts: Sequence[Artifact],
    chosen: ArtifactKind,
    because: str,
) -> Manifest:
    accuracy = next(artifact.accuracy for artifact in artifacts if artifact.kind == chosen)
    return Manifest(
        model=publication.model,
        version=publication.version or 1,
        signature=signature,
        preprocessing=publication.image.preprocessing if publication.image else image_preprocessing(signature),
        output=output,
        labels=publication.labels,
        artifacts=tuple(artifacts),
        chosen=chosen,
        chosen_because=because,
        metrics={} if accuracy is None else {"accuracy": accuracy},
        provenance=Provenance(
            source=publication.source.path.name,
            data_sha256=publication.data_sha256,
            code_commit=_code_commit(),
            libraries={name: library_version(name) for name in LIBRARIES},
        ),
    )


def _check_labels(labels: Sequence[str] | None, expected: Tensors, is_classifier: bool) -> None:
    if labels is None:
        return
    if not is_classifier:
        raise InvalidVersion("labels were given, but the model's output is not one row of classes per instance")
    classes = next(iter(expected.values())).shape[1]
    if len(labels) != classes:
        raise InvalidVersion(f"{len(labels)} labels were given, but the model has {classes} classes")
    if len(set(labels)) != len(labels):
        raise InvalidVersion("labels must differ from each other")


def _code_commit() -> str | None:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None
