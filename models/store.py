"""The directory of published versions: `<root>/<model>/<version>/`.

A version is written into a hidden directory beside its place, flushed to disk and renamed, so it is there whole or
not at all, and two publishers at once get two numbers. Plain TensorFlow Serving trees (`<version>/saved_model.pb`)
and Triton trees (`<version>/model.onnx`, `<version>/model.savedmodel/`) are read as they stand.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from models.errors import InvalidRequest, InvalidVersion, ModelNotFound, VersionExists, VersionNotFound
from models.locking import lock, locked
from models.manifest import MANIFEST, Artifact, ArtifactKind, Manifest, read_manifest

DEFAULT_ROOT = Path(__file__).resolve().parent / "store"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_STAGING = ".staging-"

# Where each kind of artifact lies in a tree that has no manifest: Tiltyard's own names, TensorFlow Serving's, Triton's.
_PLAIN: tuple[tuple[str, str, ArtifactKind], ...] = (
    ("saved_model.pb", ".", "savedmodel"),
    ("model.savedmodel/saved_model.pb", "model.savedmodel", "savedmodel"),
    ("model.onnx", "model.onnx", "onnx"),
)


def check_name(name: str) -> str:
    """Return the model's name. Raises InvalidRequest where it could not be a directory or an application."""
    if not NAME.fullmatch(name):
        raise InvalidRequest(
            f"model name {name!r}: expected letters, digits, '_', '.' or '-', starting with a letter or digit"
        )
    return name


class Store:
    """Published versions under one root directory."""

    def __init__(self, root: Path | str = DEFAULT_ROOT) -> None:
        self.root = resolve_root(root)

    def models(self) -> list[str]:
        """Names of the models that have a version, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(d.name for d in self.root.iterdir() if NAME.fullmatch(d.name) and self.versions(d.name))

    def versions(self, model: str) -> list[int]:
        """Numbers of the model's versions, ascending; empty for a model that is not there."""
        directory = self.root / check_name(model)
        if not directory.is_dir():
            return []
        numbered = ((number, path) for number, path in _numbered(directory) if path.name == str(number))
        return sorted(number for number, path in numbered if _is_version(path))

    def latest(self, model: str) -> int:
        """The highest version. Raises ModelNotFound."""
        return self._published(model)[-1]

    def directory(self, model: str, version: int) -> Path:
        """Directory of a version. Raises ModelNotFound or VersionNotFound."""
        versions = self._published(model)
        if version not in versions:
            there = ", ".join(map(str, versions))
            raise VersionNotFound(f"model {model!r} has no version {version}; there are: {there}")
        return self.root / model / str(version)

    def manifest(self, model: str, version: int) -> Manifest | None:
        """The version's manifest, or None for a plain tree. Raises InvalidManifest, VersionNotFound."""
        directory = self.directory(model, version)
        return read_manifest(directory) if (directory / MANIFEST).exists() else None

    def _published(self, model: str) -> list[int]:
        """At least one version. Raises ModelNotFound."""
        versions = self.versions(model)
        if not versions:
            there = ", ".join(self.models()) or "none yet"
            raise ModelNotFound(f"no model {model!r} in the store; there are: {there}")
        return versions

    @contextmanager
    def stage(self, model: str) -> Iterator[Path]:
        """Give a hidden directory to write a version's files into; what is not committed is removed."""
        parent = self.root / check_name(model)
        parent.mkdir(parents=True, exist_ok=True)
        with locked(parent):  # else a publisher could take a directory that is not locked yet for an abandoned one
            _remove_abandoned(parent)
            staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=parent))
            alive = lock(staging)
        try:
            yield staging
        finally:
            os.close(alive)
            shutil.rmtree(staging, ignore_errors=True)

    def commit(self, staging: Path, manifest: Manifest, version: int | None = None) -> Manifest:
        """Publish a staged directory as `version`, or as the next number.

        Raises VersionExists where `version` is taken.
        """
        for path in [staging, *staging.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o444)
        while True:
            number = version or max((n for n, _ in _numbered(staging.parent)), default=0) + 1
            numbered = manifest.model_copy(update={"version": number})
            (staging / MANIFEST).unlink(missing_ok=True)
            (staging / MANIFEST).write_text(numbered.model_dump_json(indent=2) + "\n")
            (staging / MANIFEST).chmod(0o444)
            _flush(staging)
            target = staging.parent / str(number)
            try:
                os.rename(staging, target)
            except OSError as error:
                if not target.exists():
                    raise
                if version is None:
                    continue  # another publisher was faster: take the next number
                raise VersionExists(
                    f"{manifest.model} version {number} is published and versions do not change"
                ) from error
            _fsync(target.parent)
            return numbered


def resolve_root(root: Path | str) -> Path:
    """Absolute path of a store; a relative one is taken from the project's root, wherever the process runs."""
    path = Path(root).expanduser()
    return path if path.is_absolute() else DEFAULT_ROOT.parents[1] / path


def plain_artifact(directory: Path) -> Artifact | None:
    """The artifact of a version directory that has no manifest."""
    for marker, path, kind in _PLAIN:
        if (directory / marker).is_file():
            return Artifact(kind=kind, path=path, bytes=size(directory / path))
    return None


def verify(directory: Path, artifact: Artifact) -> Path:
    """Return the artifact's path once its sha256 is what the manifest says. Raises InvalidVersion."""
    path = directory / artifact.path
    if not path.exists():
        raise InvalidVersion(f"artifact {artifact.kind} ({artifact.path}) is missing")
    if artifact.sha256 is not None and sha256(path) != artifact.sha256:
        raise InvalidVersion(f"artifact {artifact.kind} ({artifact.path}) has changed since it was published (sha256)")
    return path


def sha256(path: Path) -> str:
    """Hash of a file, or of a directory's relative names and contents in order."""
    digest = hashlib.sha256()
    for file in _files(path):
        if path.is_dir():
            digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def size(path: Path) -> int:
    """Bytes of a file or of all files of a directory."""
    return sum(file.stat().st_size for file in _files(path))


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def _is_version(directory: Path) -> bool:
    return (directory / MANIFEST).is_file() or any((directory / marker).is_file() for marker, _, _ in _PLAIN)


def _numbered(parent: Path) -> list[tuple[int, Path]]:
    """What lies under a number there, whether it is a version or something else."""
    return [(int(path.name), path) for path in parent.iterdir() if path.name.isascii() and path.name.isdecimal()]


def _remove_abandoned(parent: Path) -> None:
    """Remove staging directories whose publisher is gone: the lock of a dead process is free."""
    for staging in parent.glob(f"{_STAGING}*"):
        with suppress(OSError), locked(staging, wait=False):
            shutil.rmtree(staging, ignore_errors=True)


def _flush(directory: Path) -> None:
    for path in [*directory.rglob("*"), directory]:
        _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
