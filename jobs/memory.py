"""How much memory a change needs, about."""

from typing import Any

from jobs.change import Change
from jobs.sizing import MODEL_SERVER
from models.manifest import ArtifactKind
from models.store import Store, plain_artifact

REPLICA_BYTES = 123 * 1024**2
"""A ModelServer with a small ONNX model (PSS; loadtests/RESULTS.md). TensorFlow, for a SavedModel, comes on top."""


def needed_bytes(change: Change) -> int:
    """An estimate of what the versions that a change loads take: a measured base per replica, and the artifact."""
    return sum(_version_bytes(change, version) for version in change.loaded)


def _version_bytes(change: Change, version: int) -> int:
    application = change.after.application(change.model, version)
    args = application["args"]
    artifact = artifact_bytes(Store(args["store"]), change.model, version, args.get("artifact"))
    return _replicas(application) * (REPLICA_BYTES + _copies(application, change, version) * artifact)


def _copies(application: dict[str, Any], change: Change, version: int) -> int:
    """How often a replica holds the weights: OpenVINO once for each size that it prepares for, and once more."""
    args = application["args"]
    manifest = Store(args["store"]).manifest(change.model, version)
    kind = args.get("artifact") or (manifest.chosen if manifest else "")
    if not kind.startswith("openvino"):
        return 1
    entries = [entry for entry in application.get("deployments") or [] if entry["name"] == MODEL_SERVER]
    user_config = (entries[0].get("user_config") if entries else None) or {}
    return 1 + len(user_config.get("allowed_batch_sizes") or (1, "most"))


def artifact_bytes(store: Store, model: str, version: int, kind: ArtifactKind | None = None) -> int:
    """Size of the artifact that runs. Raises VersionNotFound, InvalidManifest."""
    manifest = store.manifest(model, version)
    if manifest is None:
        plain = plain_artifact(store.directory(model, version))
        return plain.bytes if plain else 0
    return manifest.find(kind or manifest.chosen).bytes


def _replicas(application: dict[str, Any]) -> int:
    """Replicas that it starts with."""
    count = 1
    for entry in application.get("deployments") or []:
        scaling = entry.get("autoscaling_config") or {}
        fixed = entry.get("num_replicas")
        count = fixed if isinstance(fixed, int) else scaling.get("initial_replicas") or scaling.get("min_replicas", 1)
    return max(1, count)
