"""`tiltyard publish`: a model someone made becomes an immutable version in the store."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.artifacts import Artifacts, Evidence
from jobs.calibration import Rows, judged_by, sample_photographs, split, split_validation
from jobs.conversion import (
    IMAGE,
    ImageInput,
    Source,
    convert_to_onnx,
    wrapped_inputs,
    write_onnx,
    write_savedmodel,
)
from jobs.decoding import choose_decoding
from jobs.measurement import Validation
from jobs.row_files import read_image_directory, read_labelled
from jobs.tolerance import Tolerance
from jobs.validation_reference import check_classes, write_validation_reference
from models.classification import kind_of_output
from models.errors import ConversionFailed, InvalidRequest, InvalidVersion, ModelFailed
from models.golden import check_rows, write_golden
from models.manifest import (
    EXACT,
    Artifact,
    ArtifactKind,
    DecodingCheck,
    LeftOut,
    Manifest,
    OutputKind,
    Provenance,
    ReferenceFile,
)
from models.preprocessing import Preprocessing
from models.signature import Signature, Tensors, TensorSpec, rows_of
from models.store import Store
from models.version import image_preprocessing

GOLDEN_ROWS = 4
INEXACT_GAIN = 0.9
"""What an artifact that is not exact may take of the time of one that is: precision is not given up for nothing."""

LIBRARIES = ("tensorflow", "keras", "onnx", "onnxruntime", "openvino", "tf2onnx", "numpy", "pillow")

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Publication:
    """What is to be published. `version` None is the next number; `artifact` None is the fastest that is right.

    int8 is calibrated with `calibration`, else with part of `validation`, else with the golden inputs, else, for
    image models, with sample photographs. Without any there is none, nor one for OpenVINO: noise would tell nothing of
    the model.
    `scaled_decode` None switches it on where it is within the tolerance.
    """

    model: str
    source: Source
    image: ImageInput | None = None
    version: int | None = None
    labels: tuple[str, ...] | None = None
    artifact: ArtifactKind | None = None
    golden: Tensors | None = None
    validation: Validation | None = None
    calibration: Tensors | None = None
    tolerance: Tolerance = Tolerance()
    scaled_decode: bool | None = None
    data_sha256: str | None = None

    @property
    def wrapping(self) -> ImageInput | None:
        """What goes into the graph; None where the model takes tensors, or uint8 pixels as they come."""
        if self.image is None or self.image.fits(self.source.signature.inputs[0]):
            return None
        return self.image


@dataclass(frozen=True, slots=True)
class Published:
    """The version, and why artifacts were left out of it."""

    manifest: Manifest

    @property
    def left_out(self) -> dict[str, str]:
        """The reason by kind of artifact."""
        return {left.kind: left.why for left in self.manifest.left_out}


def publish(store: Store, publication: Publication, report: Report) -> Published:
    """Write, compare, measure, choose, commit. `report` is told what is being done.

    Raises InvalidVersion, VersionExists, InvalidRequest, InvalidTensor (golden inputs that do not fit).
    """
    report("running the golden inputs")
    inputs = _golden_inputs(publication)
    expected = _run_source(publication, inputs)
    output = kind_of_output(list(expected.values()), _has_classes(publication))
    _check_labels(publication.labels, expected, output != "tensors")
    if publication.validation is not None and output != "tensors":
        check_classes(publication.validation, next(iter(expected.values())).shape[1])
    evidence = Evidence(inputs, expected, output, *_rows(publication, output), publication.tolerance)
    with store.stage(publication.model) as staging:
        artifacts = Artifacts(evidence, publication.artifact, _write_artifacts(staging, publication, report))
        for kind, path in _written(staging).items():
            report(f"comparing and timing {kind}")
            artifacts.add(kind, path)
        report("quantising to int8")
        artifacts.add_int8(staging)
        report("comparing and timing openvino")
        artifacts.add_openvino(staging)
        if artifacts.kept:
            artifacts.time_together()
        chosen, because = choose(artifacts.kept, publication.artifact, artifacts.reasons)
        if chosen in artifacts.outside:
            because = f"asked for, though {artifacts.outside[chosen]}"
        write_golden(staging, inputs, expected)
        report("comparing ways to decode")
        preprocessing, decoding = _decoding(publication, artifacts, chosen)
        manifest = _manifest(publication, artifacts, chosen, because)
        manifest = manifest.model_copy(update={"preprocessing": preprocessing, "decoding": decoding})
        report("answering the validation rows, for reference")
        manifest = manifest.model_copy(update={"reference": _reference(staging, publication, manifest, artifacts)})
        report("writing to the store")
        return Published(store.commit(staging, manifest, publication.version))


def _has_classes(publication: Publication) -> bool:
    return publication.labels is not None or publication.validation is not None


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
    fastest = min(artifacts, key=_handicapped_ms)
    others = ", ".join(f"{a.kind} {a.latency_ms:.3g} ms" for a in artifacts if a is not fastest)
    return fastest.kind, f"fastest within the tolerance: {fastest.latency_ms:.3g} ms against {others}"


def _handicapped_ms(artifact: Artifact) -> float:
    return (artifact.latency_ms or 0.0) / (1.0 if artifact.kind in EXACT else INEXACT_GAIN)


def read_validation(path: Path, publication: Publication) -> Validation:
    """Read labelled rows: an .npz file that also holds `classes`, or a directory of images. Raises InvalidRequest."""
    if not path.is_dir():
        return read_labelled(path)
    signature = publication.source.signature
    preprocessing = _preprocessing(publication, signature)
    if preprocessing is None:
        raise InvalidRequest(f"--validation {path} is a directory of images, but the model takes none (--image)")
    name = wrapped_inputs(signature, publication.wrapping)[0].name
    return read_image_directory(path, name, preprocessing, publication.labels)


def _decoding(
    publication: Publication, artifacts: Artifacts, chosen: ArtifactKind
) -> tuple[Preprocessing | None, DecodingCheck | None]:
    _, backend = artifacts.find(chosen)
    preprocessing = _preprocessing(publication, backend.signature)
    if preprocessing is None:
        return None, None
    evidence = artifacts.evidence
    return choose_decoding(
        preprocessing,
        backend,
        evidence.output,
        evidence.tolerance,
        publication.scaled_decode,
        publication.validation,
    )


def _reference(
    staging: Path, publication: Publication, manifest: Manifest, artifacts: Artifacts
) -> ReferenceFile | None:
    if publication.validation is None:
        return None
    _, backend = artifacts.find(manifest.chosen)
    checked = backend.signature.check(publication.validation.inputs)
    return write_validation_reference(staging, manifest, backend, replace(publication.validation, inputs=checked))


def _preprocessing(publication: Publication, signature: Signature) -> Preprocessing | None:
    return publication.image.preprocessing if publication.image else image_preprocessing(signature)


def _rows(publication: Publication, output: OutputKind) -> tuple[Rows | str, Validation | None]:
    """What to quantise with and to judge by, and what to measure accuracy on."""
    calibration = publication.calibration
    signature = Signature(inputs=wrapped_inputs(publication.source.signature, publication.wrapping), outputs=())
    validation = publication.validation
    if validation is not None:
        validation = replace(validation, inputs=signature.check(validation.inputs))
    if validation is not None and output == "tensors":
        raise InvalidRequest("right classes were given, but the model's output is not one row of classes per instance")
    if calibration is not None:
        rows = signature.check(calibration)
        return (judged_by(rows, validation) if validation else split(rows, "calibration rows")), validation
    if validation is not None:
        return split_validation(validation)
    if publication.golden is not None:
        return split(signature.check(publication.golden), "golden rows"), None
    preprocessing = _preprocessing(publication, signature)
    if preprocessing is not None:
        return sample_photographs(signature.inputs[0].name, preprocessing), None
    return "no rows to tell what it loses were given (--calibration)", None


def _write_artifacts(staging: Path, publication: Publication, report: Report) -> dict[ArtifactKind, LeftOut]:
    source, image = publication.source, publication.wrapping
    if source.kind == "onnx":
        report("writing the ONNX artifact")
        write_onnx(source, image, staging / "model.onnx")
        why = "an ONNX model is not converted to TensorFlow"
        return {"savedmodel": LeftOut(kind="savedmodel", why=why)}
    report("writing the SavedModel artifact")
    write_savedmodel(source, image, staging / "saved_model")
    report("converting to ONNX")
    try:
        convert_to_onnx(staging / "saved_model", staging / "model.onnx")
    except ConversionFailed as error:
        (staging / "model.onnx").unlink(missing_ok=True)
        return {"onnx": LeftOut(kind="onnx", why=str(error))}
    return {}


def _written(staging: Path) -> dict[ArtifactKind, Path]:
    paths: dict[ArtifactKind, Path] = {"savedmodel": staging / "saved_model", "onnx": staging / "model.onnx"}
    return {kind: path for kind, path in paths.items() if path.exists()}


def _golden_inputs(publication: Publication) -> dict[str, npt.NDArray[Any]]:
    signature = Signature(inputs=wrapped_inputs(publication.source.signature, publication.wrapping), outputs=())
    if publication.golden is not None:
        return signature.check(publication.golden)
    if publication.validation is not None:
        return {name: a[:GOLDEN_ROWS] for name, a in signature.check(publication.validation.inputs).items()}
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
    check_rows(outputs, rows_of(inputs))
    return outputs


def _manifest(
    publication: Publication,
    artifacts: Artifacts,
    chosen: ArtifactKind,
    because: str,
) -> Manifest:
    artifact, backend = artifacts.find(chosen)
    signature = backend.signature
    return Manifest(
        model=publication.model,
        version=publication.version or 1,
        signature=signature,
        output=artifacts.evidence.output,
        labels=publication.labels,
        artifacts=artifacts.kept,
        chosen=chosen,
        chosen_because=because,
        left_out=tuple(artifacts.left_out.values()),
        metrics={} if artifact.accuracy is None else {"accuracy": artifact.accuracy},
        provenance=Provenance(
            source=publication.source.path.name,
            data_sha256=publication.data_sha256,
            code_commit=_code_commit(),
            libraries=_libraries(),
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


def _libraries() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):  # an extra
            found[name] = library_version(name)
    return found


def _code_commit() -> str | None:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None
