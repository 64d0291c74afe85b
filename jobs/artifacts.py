"""The artifacts of one version while it is published: each loaded, compared, timed, kept or left out."""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from jobs.calibration import Rows
from jobs.embedding import add_embedding
from jobs.measurement import Comparison, Validation, accuracy, compare, latencies_ms, latency_ms, run_rows
from jobs.quantization import write_int8
from jobs.tolerance import Tolerance
from models.backends import Backend, load_backend
from models.errors import InvalidVersion, ModelFailed
from models.golden import check_golden, largest_difference
from models.manifest import EXACT, Artifact, ArtifactKind, Embedding, LeftOut, OutputKind
from models.signature import Tensors
from models.store import sha256, size

INT8 = "model.int8.onnx"
_LARGEST = 1e30
"""A difference that golden outputs may always have: shapes, names, text and NaN are still compared."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What artifacts are judged by: golden inputs with the source's outputs, rows, labelled rows, a tolerance.

    `rows` is the reason where there are none to quantise with and to judge by.
    """

    inputs: Tensors
    expected: Tensors
    output: OutputKind
    rows: Rows | str
    validation: Validation | None
    tolerance: Tolerance


@dataclass(slots=True)
class Artifacts:
    """Those that are part of the version, and those that are not.

    `outside` says how far those are outside of the tolerance that are kept because they are `wanted`.
    """

    evidence: Evidence
    wanted: ArtifactKind | None = None
    left_out: dict[ArtifactKind, LeftOut] = field(default_factory=dict)
    outside: dict[ArtifactKind, str] = field(default_factory=dict)
    _kept: dict[ArtifactKind, tuple[Artifact, Backend]] = field(default_factory=dict)
    _exact_answers: Tensors | None = None

    @property
    def kept(self) -> tuple[Artifact, ...]:
        """What was measured of each."""
        return tuple(artifact for artifact, _ in self._kept.values())

    @property
    def reasons(self) -> dict[str, str]:
        """Why the others were left out."""
        return {kind: left.why for kind, left in self.left_out.items()}

    def find(self, kind: ArtifactKind) -> tuple[Artifact, Backend]:
        """What was measured of a kept one, and its backend. Raises KeyError."""
        return self._kept[kind]

    def leave_out(self, kind: ArtifactKind, why: str, measured: Artifact | None = None) -> None:
        """Remember why there is none of that kind."""
        self.left_out[kind] = LeftOut(kind=kind, why=why, measured=measured)

    def add(self, kind: ArtifactKind, path: Path) -> None:
        """Keep an artifact that does what the source does; remove one that does not."""
        try:
            embedding = self._add_embedding(path) if kind == "onnx" else None
            backend = load_backend(kind, path)
            self._kept[kind] = self._measure(kind, path, backend, embedding), backend
        except (InvalidVersion, ModelFailed) as error:
            self.leave_out(kind, str(error))
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def add_int8(self, directory: Path) -> None:
        """Quantise the ONNX artifact, and keep what computes it within the tolerance: ONNX Runtime, OpenVINO."""
        path = directory / INT8
        kinds: tuple[ArtifactKind, ...] = ("onnx-int8", "openvino-int8")
        try:
            exact, backend = self._exact()
            write_int8(directory / exact.path, path, self._rows().calibration, backend.signature.batch_size)
            embedding = self._add_embedding(path)
        except (InvalidVersion, ModelFailed) as error:
            for kind in kinds:
                self.leave_out(kind, str(error))
        else:
            for kind in kinds:
                self._add_inexact(kind, path, embedding)
        if not set(kinds) & set(self._kept):
            path.unlink(missing_ok=True)

    def add_openvino(self, directory: Path) -> None:
        """Compute the ONNX artifact with OpenVINO and keep that within the tolerance; the file is the same."""
        try:
            exact, _ = self._exact()
        except InvalidVersion as error:
            self.leave_out("openvino", str(error))
        else:
            self._add_inexact("openvino", directory / exact.path, exact.embedding)

    def time_together(self) -> None:
        """Time the kept ones again, taking turns: their order decides which one runs."""
        backends = [backend for _, backend in self._kept.values()]
        for (kind, (artifact, backend)), taken_ms in zip(
            list(self._kept.items()), latencies_ms(backends, self.evidence.inputs), strict=True
        ):
            self._kept[kind] = artifact.model_copy(update={"latency_ms": taken_ms}), backend

    def _add_embedding(self, path: Path) -> Embedding | None:
        return None if self.evidence.output == "tensors" else add_embedding(path, self.evidence.inputs)

    def _measure(self, kind: ArtifactKind, path: Path, backend: Backend, embedding: Embedding | None) -> Artifact:
        """Describe an artifact. Raises InvalidVersion where it does not do what the source does, about or exactly."""
        inputs, expected, validation = self.evidence.inputs, self.evidence.expected, self.evidence.validation
        if {spec.name for spec in backend.signature.inputs} != set(inputs):
            raise InvalidVersion("its inputs have other names")
        outputs = backend.run(inputs)
        check_golden(expected, outputs, 0.0 if kind in EXACT else _LARGEST)
        return Artifact(
            kind=kind,
            path=path.name,
            sha256=sha256(path),
            bytes=size(path),
            max_abs_diff=max(largest_difference(array, outputs[name]) for name, array in expected.items()),
            latency_ms=latency_ms(backend, inputs),
            accuracy=None if validation is None else accuracy(backend, validation),
            precision=backend.precision,
            embedding=embedding,
        )

    def _exact(self) -> tuple[Artifact, Backend]:
        if "onnx" not in self._kept:
            raise InvalidVersion("there is no ONNX artifact to make it from")
        return self._kept["onnx"]

    def _rows(self) -> Rows:
        if isinstance(self.evidence.rows, str):
            raise InvalidVersion(self.evidence.rows)
        return self.evidence.rows

    def _add_inexact(self, kind: ArtifactKind, path: Path, embedding: Embedding | None) -> None:
        """Keep an artifact within the tolerance, or as the wanted one, else leave it out with its numbers."""
        measured = None
        try:
            judging, backend = self._rows().judging, load_backend(kind, path)
            measured, comparison = self._compare(self._measure(kind, path, backend, embedding), backend, judging)
            outside = comparison.outside(self.evidence.tolerance)
            if outside is not None and kind != self.wanted:
                raise InvalidVersion(outside)
        except (InvalidVersion, ModelFailed) as error:
            self.leave_out(kind, str(error), measured)
            return
        self._kept[kind] = measured, backend
        if outside is not None:
            self.outside[kind] = outside

    def _compare(self, measured: Artifact, backend: Backend, judging: Tensors) -> tuple[Artifact, Comparison]:
        """Hold an artifact against the exact one."""
        exact, exact_backend = self._exact()
        if self._exact_answers is None:  # the same for every kind, and the slowest of them to compute
            self._exact_answers = run_rows(exact_backend, judging)
        comparison = compare(run_rows(backend, judging), self._exact_answers, self.evidence.output)
        if measured.accuracy is not None and exact.accuracy is not None:
            comparison = replace(comparison, accuracy_loss=exact.accuracy - measured.accuracy)
        update = {
            "agreement": comparison.agreement,
            "relative_diff": comparison.relative_diff,
            "compared_rows": comparison.rows,
            "max_abs_diff": max(measured.max_abs_diff or 0.0, comparison.max_abs_diff),
        }
        return measured.model_copy(update=update), comparison
