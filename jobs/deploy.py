"""Plans of `tiltyard deploy` and `undeploy`: which versions serve_config.yaml serves."""

from pathlib import Path

from jobs.author import Author
from jobs.change import Change
from jobs.config_check import check
from jobs.serve_config import ServeConfig
from models.errors import InvalidRequest
from models.manifest import ArtifactKind, Manifest
from models.store import DEFAULT_ROOT, Store

SOMEBODY = Author()


def plan_deploy(
    path: Path, store: Store, model: str, version: int, artifact: ArtifactKind | None, author: Author = SOMEBODY
) -> Change:
    """Plan to serve a published version. Raises VersionNotFound, InvalidRequest, InvalidConfig, Conflict."""
    check_artifact(store.manifest(model, version), artifact)
    before = ServeConfig.read(path)
    after = before.edited(lambda config: config.add_version(model, version, portable(store.root), artifact))
    check(after)
    events = []
    if not before.has(model, version):
        policy = after.model(model)
        champion = version if policy.champion == version else None
        events.append(author.event(model, version, "deploy", share=policy.share(version), champion=champion))
    return Change(path, before, after, model, (version,), tuple(events))


def plan_undeploy(path: Path, model: str, version: int | None, author: Author = SOMEBODY) -> Change:
    """Plan to stop serving a version, or a whole model. Raises ModelNotFound, VersionNotFound, Conflict."""
    before = ServeConfig.read(path)
    after = before.edited(lambda config: config.remove_version(model, version))
    check(after)
    change = Change(path, before, after, model)
    events = tuple(author.event(model, removed, "undeploy") for removed in change.unloaded)
    return Change(path, before, after, model, (), events)


def check_artifact(manifest: Manifest | None, wanted: ArtifactKind | None) -> None:
    """Refuse an artifact that a version does not have. Raises InvalidRequest."""
    if manifest is None or wanted is None or wanted in {artifact.kind for artifact in manifest.artifacts}:
        return
    there = ", ".join(artifact.kind for artifact in manifest.artifacts)
    why = "".join(f" ({left.why})" for left in manifest.left_out if left.kind == wanted)
    raise InvalidRequest(
        f"{manifest.model} version {manifest.version} has no artifact {wanted}{why}; there is: {there}"
    )


def portable(root: Path) -> str:
    """A store's path as serve_config.yaml holds it: relative to the project where it lies inside of it."""
    project = DEFAULT_ROOT.parents[1]
    return str(root.relative_to(project)) if root.is_relative_to(project) else str(root)
