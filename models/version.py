"""A version, loaded and proved: verified on disk, warmed up, reproducing its golden outputs."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.backends import Backend, Provider, load_backend
from models.errors import InvalidVersion, ModelFailed
from models.golden import GOLDEN, check_golden, check_rows, read_golden
from models.manifest import EXACT, Artifact, ArtifactKind, Manifest
from models.preprocessing import Preprocessing
from models.signature import Signature, TensorSpec, rows_of
from models.store import Store, plain_artifact, verify

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version that can answer."""

    manifest: Manifest
    backend: Backend


def load_version(
    store: Store,
    model: str,
    version: int,
    threads: int = 1,
    artifact: ArtifactKind | None = None,
    provider: Provider = "cpu",
) -> LoadedVersion:
    """Load the chosen artifact (or `artifact`), check its sha256, warm it up and check the golden outputs.

    Raises InvalidVersion, InvalidManifest, ModelNotFound or VersionNotFound.
    """
    directory = store.directory(model, version)
    manifest = store.manifest(model, version)
    try:
        if manifest is None:
            loaded = _load_plain(directory, model, version, threads, provider)
            _artifact(loaded.manifest, artifact)
        else:
            chosen = _artifact(manifest, artifact)
            path = verify(directory, chosen)
            loaded = LoadedVersion(manifest, load_backend(chosen.kind, path, threads, provider, chosen.precision))
        warm_up(directory, loaded, artifact)
    except (InvalidVersion, ModelFailed) as error:
        raise InvalidVersion(f"{model} version {version}: {error}") from error
    return loaded


def warm_up(directory: Path, loaded: LoadedVersion, artifact: ArtifactKind | None = None) -> None:
    """Run the golden inputs and compare the outputs; for a plain tree, which has none, run zeros.

    Raises InvalidVersion.
    """
    if not (directory / GOLDEN).exists():
        if loaded.manifest.provenance is not None:
            raise InvalidVersion(f"{GOLDEN} is missing")
        _run_zeros(loaded)
        return
    inputs, expected = read_golden(directory)
    outputs = loaded.backend.run(inputs)
    check_golden(expected, outputs, allowed_difference(_artifact(loaded.manifest, artifact)))
    check_rows(outputs, rows_of(inputs))


def prepare(
    directory: Path, loaded: LoadedVersion, sizes: Collection[int], artifact: ArtifactKind | None = None
) -> None:
    """Make batches of these sizes fast, and hold what computes them against the golden outputs, too.

    Raises InvalidVersion, and then no size is prepared.
    """
    try:
        new = loaded.backend.prepare(sizes)
        if not new or not (directory / GOLDEN).exists():
            return
        inputs, expected = read_golden(directory)
        for size in new:
            rows = np.arange(size) % rows_of(inputs)
            outputs = loaded.backend.run({name: array[rows] for name, array in inputs.items()})
            wanted = {name: array[rows] for name, array in expected.items()}
            check_golden(wanted, outputs, allowed_difference(_artifact(loaded.manifest, artifact)))
    except (InvalidVersion, ModelFailed):
        loaded.backend.prepare(())
        raise


def allowed_difference(artifact: Artifact) -> float:
    """How far an artifact's golden outputs may be from those of the model it was made from.

    For one that is not exact, twice of what was measured: where another CPU rounds one int8 activation to the other
    side, all that follows moves by a step. Sums that saturate, as they can on a CPU without VNNI instructions, are
    refused once they lead further off than that.
    """
    measured = artifact.max_abs_diff or 0.0
    return measured if artifact.kind in EXACT else 2 * measured


def _run_zeros(loaded: LoadedVersion) -> None:
    try:
        loaded.backend.run(zeros(loaded.manifest.signature))
    except ModelFailed as error:  # zeros may be nothing that the model can answer
        logger.warning("%s is not warm: zeros do not suit it: %s", loaded.manifest.model, error)


def zeros(signature: Signature) -> dict[str, npt.NDArray[Any]]:
    """One row of zeros (or empty strings) that fits the signature; dimensions of any size are 1."""

    def array(spec: TensorSpec) -> npt.NDArray[Any]:
        shape = [d or 1 for d in spec.shape]
        return np.full(shape, "", object) if spec.dtype == "string" else np.zeros(shape, spec.numpy_dtype)

    return {spec.name: array(spec) for spec in signature.inputs}


def image_preprocessing(signature: Signature) -> Preprocessing | None:
    """How images reach a model that takes one uint8 [rows, height, width, channels] tensor; None for any other."""
    if len(signature.inputs) != 1:
        return None
    spec = signature.inputs[0]
    if spec.dtype != "uint8" or len(spec.shape) != 4:
        return None
    _, height, width, channels = spec.shape
    if height is None or width is None or channels not in (1, 3):
        return None
    return Preprocessing(height=height, width=width, channels="gray" if channels == 1 else "rgb")


def derive_manifest(model: str, version: int, artifact: Artifact, signature: Signature) -> Manifest:
    """The manifest of a version that came without one."""
    return Manifest(
        model=model,
        version=version,
        signature=signature,
        preprocessing=image_preprocessing(signature),
        artifacts=(artifact,),
        chosen=artifact.kind,
        chosen_because="the only artifact of a plain tree",
    )


def _load_plain(directory: Path, model: str, version: int, threads: int, provider: Provider) -> LoadedVersion:
    artifact = plain_artifact(directory)
    if artifact is None:
        raise InvalidVersion("the directory holds neither a manifest nor an artifact")
    backend = load_backend(artifact.kind, directory / artifact.path, threads, provider)
    return LoadedVersion(derive_manifest(model, version, artifact, backend.signature), backend)


def _artifact(manifest: Manifest, kind: ArtifactKind | None) -> Artifact:
    try:
        return manifest.find(kind or manifest.chosen)
    except KeyError:
        there = ", ".join(artifact.kind for artifact in manifest.artifacts)
        raise InvalidVersion(f"there is no artifact {kind!r}, only {there}") from None
