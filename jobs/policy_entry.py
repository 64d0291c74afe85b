"""A model's entry in the Router's user_config, edited in place: `champion`, `challengers`, `shadows`."""

from typing import Literal

from ruamel.yaml.comments import CommentedMap

from models.policy import ModelPolicy

Role = Literal["challengers", "shadows"]


def pinned(entry: CommentedMap | None, policy: ModelPolicy) -> CommentedMap:
    """The entry, which names the champion and all others by their numbers, in place of a `version_policy`."""
    made = CommentedMap() if entry is None else entry
    if made.get("champion") is None:
        made.pop("version_policy", None)
        made.pop("champion", None)
        made.insert(0, "champion", policy.champion)
        for version, share in policy.challengers.items():
            _shares(made, "challengers")[version] = share
    return made


def set_share(entry: CommentedMap, role: Role, version: int, share: float) -> None:
    """Make a version a challenger or a shadow, whatever it was of both, with this share."""
    _take(entry, "shadows" if role == "challengers" else "challengers", version)
    shares = _shares(entry, role)
    key = _key(shares, version)
    if key is None or shares[key] != share:
        shares[version if key is None else key] = share
    _drop_empty(entry)


def promote(entry: CommentedMap, version: int) -> None:
    """Exchange champion and version: the former champion is a challenger without traffic from now on."""
    former = entry["champion"]
    place = _take(entry, "challengers", version) or 0
    _take(entry, "shadows", version)
    entry["champion"] = version
    _shares(entry, "challengers").insert(place, former, 0.0)
    _drop_empty(entry)


def remove(entry: CommentedMap, version: int) -> None:
    """Remove a challenger or a shadow."""
    _take(entry, "challengers", version)
    _take(entry, "shadows", version)
    _drop_empty(entry)


def _shares(entry: CommentedMap, role: Role) -> CommentedMap:
    if not entry.get(role):
        entry[role] = CommentedMap()
    shares: CommentedMap = entry[role]
    return shares


def _take(entry: CommentedMap, role: Role, version: int) -> int | None:
    """Remove a version from where it is; its place there, None where it was not."""
    shares = entry.get(role) or CommentedMap()
    key = _key(shares, version)
    if key is None:
        return None
    place = list(shares).index(key)
    del shares[key]
    shares.ca.items.pop(key, None)  # else its comment comes back with a version of that number
    return place


def _drop_empty(entry: CommentedMap) -> None:
    for role in ("challengers", "shadows"):
        if role in entry and not entry[role]:
            del entry[role]


def _key(shares: CommentedMap, version: int) -> int | str | None:
    """The key of a version: YAML may hold it as a number or as a string."""
    return next((key for key in shares if str(key) == str(version)), None)
