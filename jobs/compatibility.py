"""Whether a version can stand in for another one without a client noticing: same tensors, same labels."""

from collections.abc import Collection, Iterator, Sequence

from models.errors import Conflict
from models.manifest import Manifest
from models.policy import ModelPolicy
from models.signature import TensorSpec
from models.store import Store
from models.version import load_version


def check_compatible(store: Store, model: str, champion: int, versions: Sequence[int]) -> None:
    """Hold versions against a champion. Raises Conflict with the first reason, VersionNotFound, InvalidVersion."""
    if not versions:
        return
    expected = manifest_of(store, model, champion)
    for version in versions:
        for why in differences(expected, manifest_of(store, model, version)):
            raise Conflict(f"{model} version {version} cannot answer in place of version {champion}: {why}")


def check_stand_ins(store: Store, model: str, policy: ModelPolicy, new: Collection[int] = ()) -> None:
    """Hold all who are sent a champion's requests, and `new` versions, against the champion. Raises as above."""
    given = {**policy.challengers, **policy.shadows}
    check_compatible(store, model, policy.champion, [v for v, share in given.items() if share > 0 or v in new])


def manifest_of(store: Store, model: str, version: int) -> Manifest:
    """The manifest of a version; a plain tree is loaded to derive it. Raises VersionNotFound, InvalidVersion."""
    return store.manifest(model, version) or load_version(store, model, version).manifest


def differences(champion: Manifest, other: Manifest) -> Iterator[str]:
    """What a client of the champion would notice if the other one answered."""
    yield from _tensors("input", champion.signature.inputs, other.signature.inputs)
    yield from _tensors("output", champion.signature.outputs, other.signature.outputs)
    if (champion.preprocessing is None) != (other.preprocessing is None):
        yield f"it takes {_what(other)}, not {_what(champion)}"
    if champion.output != other.output:
        yield f"it answers with {other.output}, not {champion.output}"
    if champion.labels != other.labels:
        yield _labels(champion.labels, other.labels)


def _tensors(role: str, ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec]) -> Iterator[str]:
    mine, other = ({spec.name: spec for spec in specs} for specs in (ours, theirs))
    if mine.keys() != other.keys():
        yield f"its {role}s are {', '.join(sorted(other))}, not {', '.join(sorted(mine))}"
        return
    for name, spec in mine.items():
        if not _fits(role, spec, other[name]):
            yield f"{role} {name!r} is {other[name].row} per instance, not {spec.row}"


def _fits(role: str, ours: TensorSpec, theirs: TensorSpec) -> bool:
    """Same dtype and rank, and each dimension the same.

    A dimension of any size fits where the champion has a number; of outputs also the other way, because converters
    forget them.
    """
    rows = zip(ours.shape[1:], theirs.shape[1:], strict=False)
    return (
        ours.dtype == theirs.dtype
        and len(ours.shape) == len(theirs.shape)
        and all(a == b or b is None or (a is None and role == "output") for a, b in rows)
    )


def _what(manifest: Manifest) -> str:
    return "tensors" if manifest.preprocessing is None else "images"


def _labels(ours: tuple[str, ...] | None, theirs: tuple[str, ...] | None) -> str:
    if ours is None or theirs is None:
        return f"it has {'no labels' if theirs is None else 'labels'}, unlike the champion"
    if sorted(ours) == sorted(theirs):
        return "its labels are in another order"
    if len(ours) != len(theirs):
        return f"it has {len(theirs)} labels, not {len(ours)}"
    here, there = next((a, b) for a, b in zip(ours, theirs, strict=True) if a != b)
    return f"its labels differ: {there!r} where the champion has {here!r}"
