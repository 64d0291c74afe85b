"""Plans that make a serve_config.yaml obey a model's version_policy: its new versions in, those it leaves out away."""

from collections.abc import Collection, Sequence
from pathlib import Path

from jobs.author import Author
from jobs.change import Change
from jobs.compatibility import check_compatible
from jobs.config_check import check
from jobs.deploy import check_artifact, portable
from jobs.serve_config import ServeConfig
from models.errors import Conflict, VersionNotFound
from models.manifest import ArtifactKind
from models.policy import DeclaredPolicy
from models.rollout import Event
from models.store import Store


def store_of(config: ServeConfig, model: str) -> Store:
    """Where the versions of a model are published: its champion's store, the gateway's while it has none."""
    return config.store(model) if model in config.policy.models else config.gateway_store


def plan_live(
    path: Path,
    store: Store,
    model: str,
    versions: Collection[int],
    author: Author,
    artifact: ArtifactKind | None = None,
) -> Change:
    """Plan to serve what a version_policy chooses of published versions; the newest becomes champion.

    A model that the file does not name follows its latest version from then on. Versions that the policy leaves out
    answer until the new ones do, then they are unloaded. Raises VersionNotFound, InvalidRequest, InvalidConfig, and
    Conflict where the file names the champion, or the new one cannot stand in for the former.
    """
    before = ServeConfig.read(path)
    entry = before.declared.models.get(model, DeclaredPolicy())
    if entry.champion is not None:
        raise Conflict(f"{model}: the file names version {entry.champion} as champion, whatever is published")
    live, running = entry.chosen(versions), before.running.get(model, set())
    if not live:
        raise VersionNotFound(f"{model}: no version that its version_policy names is published")
    for version in live:
        check_artifact(store.manifest(model, version), artifact if version not in running else None)

    def edit(config: ServeConfig) -> None:
        config.follow_latest(model)
        like = max(running, default=None)
        for version in live:
            if version not in running:
                config.add_application(model, version, portable(store.root), artifact, like)
        for version in running - set(live):
            config.remove_application(model, version)

    after = before.edited(edit)
    check(after)
    former = before.policy.models[model].champion if model in before.policy.models else None
    if former is not None:
        check_compatible(store, model, former, [live[-1]] if live[-1] != former else [])
    answering = tuple(version for version in live if version not in running)
    return Change(path, before, after, model, answering, _events(author, model, live, running, former))


def check_published(config: ServeConfig, model: str, versions: Collection[int]) -> None:
    """Refuse a policy that names what is not published. Raises VersionNotFound."""
    entry = config.declared.models.get(model, DeclaredPolicy())
    specific = entry.version_policy.specific if entry.version_policy is not None else None
    for what, named in (("version_policy", specific.versions if specific else ()), ("labels", entry.labels.values())):
        if missing := sorted(set(named) - set(versions)):
            raise VersionNotFound(f"{what}: {model} version {missing[0]} is not published")


def _events(
    author: Author, model: str, live: Sequence[int], running: Collection[int], former: int | None
) -> tuple[Event, ...]:
    champion = live[-1]
    found = []
    for version in live:
        if version not in running:
            first = champion if version == champion and former is None else None
            found.append(author.event(model, version, "deploy", share=float(version == champion), champion=first))
    if former is not None and champion != former:
        evidence = {"former_champion": former}
        found.append(author.event(model, champion, "promote", champion=champion, evidence=evidence))
    found += [author.event(model, version, "retire") for version in sorted(set(running) - set(live))]
    return tuple(found)
