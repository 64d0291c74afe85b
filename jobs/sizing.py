"""A version's setting in serve_config.yaml: only what must change is written, comments stay where they are."""

from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from jobs.change import Change
from jobs.config_check import check
from jobs.deploy import plan_deploy
from jobs.frontier import Setting
from jobs.measured_replica import Load
from jobs.serve_config import ServeConfig
from models.errors import Conflict, VersionNotFound
from models.store import Store, resolve_root

MODEL_SERVER = "ModelServer"


def served_artifact(path: Path, store: Store, model: str, version: int, deployed: bool = True) -> Load:
    """What a replica of the version loads by the file; not `deployed`, what it would load.

    Raises ModelNotFound, VersionNotFound, InvalidConfig, Conflict for a version from another store.
    """
    store.directory(model, version)
    config = ServeConfig.read(path)
    check(config)
    if deployed and not config.has(model, version):
        raise VersionNotFound(
            f"{model} version {version} is not in {path.name}: `tiltyard deploy {model}@{version}` first, "
            "or only measure it with --dry-run"
        )
    args = config.application(model, version)["args"] if config.has(model, version) else {}
    root = resolve_root(args.get("store", store.root))
    if root.resolve() != store.root.resolve():
        raise Conflict(f"{path.name} serves {model} version {version} from another store: give --store {root}")
    return Load(store.root, model, version, threads=1, artifact=args.get("artifact"))


def plan_setting(
    path: Path, store: Store, model: str, version: int, setting: Setting, portion: int | None = None
) -> Change:
    """Plan to run a setting, its batches in portions of so many rows; a version that is not deployed is added.

    Raises InvalidConfig, Conflict.
    """
    before = ServeConfig.read(path)
    there = before.has(model, version)
    start = before if there else plan_deploy(path, store, model, version, None).after
    after = start.edited(lambda config: apply_setting(config, model, version, setting, portion))
    check(after)
    return Change(path, before, after)


def apply_setting(config: ServeConfig, model: str, version: int, setting: Setting, portion: int | None = None) -> None:
    """Make a version's application run a setting. Raises VersionNotFound where there is none."""
    application = config.application(model, version)
    entry = _model_server(application)
    if setting.threads != _threads(application, entry):
        _put(application["args"], "threads", setting.threads)
    _set_replicas(entry, setting.replicas)
    _set_batch(entry, setting.batch, portion)


def restarts(change: Change, model: str, version: int) -> bool:
    """Whether applying it restarts the version's replicas: other args do, other batches or more replicas do not."""
    before, after = (config.application(model, version)["args"] for config in (change.before, change.after))
    return bool(before != after)


def _model_server(application: CommentedMap) -> CommentedMap:
    """The entry of the ModelServer, made where there is none."""
    if not application.get("deployments"):
        application.pop("deployments", None)
        _put(application, "deployments", CommentedSeq())
    for entry in application["deployments"]:
        if entry["name"] == MODEL_SERVER:
            assert isinstance(entry, CommentedMap)
            return entry
    added = CommentedMap(name=MODEL_SERVER)
    application["deployments"].append(added)
    return added


def _threads(application: CommentedMap, entry: CommentedMap) -> int:
    """What a replica runs now: as many as its args say, else as its num_cpus, at least one (VersionSettings)."""
    cpus = (entry.get("ray_actor_options") or {}).get("num_cpus") or 0
    return application["args"].get("threads") or max(1, int(cpus))


def _set_replicas(entry: CommentedMap, replicas: int) -> None:
    """As many all the time, so that they are there when the load comes."""
    if isinstance(entry.get("num_replicas"), int):
        _put(entry, "num_replicas", replicas)
        return
    scaling = _map_in(entry, "autoscaling_config")
    for key in ("min_replicas", "max_replicas"):
        _put(scaling, key, replicas)
    if scaling.get("initial_replicas") is not None:
        _put(scaling, "initial_replicas", replicas)


def _set_batch(entry: CommentedMap, batch: int, portion: int | None) -> None:
    user_config = _map_in(entry, "user_config")
    _put(user_config, "max_batch_size", batch)
    if portion is not None:
        _put(user_config, "max_execution_batch_size", portion)
    else:
        user_config.pop("max_execution_batch_size", None)
    if user_config.get("num_batch_threads") is not None:  # measured one batch at a time
        _put(user_config, "num_batch_threads", 1)
    if sizes := user_config.get("allowed_batch_sizes"):  # of what is computed at once, which is the largest of them
        largest = portion or batch
        allowed = CommentedSeq(sorted({size for size in sizes if size < largest} | {largest}))
        allowed.fa.set_flow_style()
        if list(sizes) != list(allowed):
            user_config["allowed_batch_sizes"] = allowed


def _map_in(entry: CommentedMap, key: str) -> CommentedMap:
    if not entry.get(key):
        made = CommentedMap()
        made.fa.set_flow_style()
        _put(entry, key, made)
    found = entry[key]
    assert isinstance(found, CommentedMap)
    return found


def _put(mapping: CommentedMap, key: str, value: Any) -> None:
    """Set a key. A new one is the last, unless that would put it behind the comments that follow the mapping."""
    if key not in mapping:
        mapping.insert(len(mapping) - _is_followed(mapping), key, value)
    elif mapping[key] != value:
        mapping[key] = value


def _is_followed(node: Any) -> bool:
    """Whether the last line of a node holds a comment, and with it perhaps those of the lines below."""
    if not isinstance(node, CommentedMap | CommentedSeq) or not node:
        return False
    last = list(node)[-1] if isinstance(node, CommentedMap) else len(node) - 1
    return bool(node.ca.end) or last in node.ca.items or _is_followed(node[last])
