"""Plans of the commands that change who answers: checked as a whole, before anything is touched."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jobs import policy_entry
from jobs.author import Author
from jobs.change import Change
from jobs.compatibility import check_compatible, check_stand_ins
from jobs.config_check import check
from jobs.deploy import check_artifact, portable
from jobs.serve_config import ServeConfig
from models.errors import Conflict, InvalidRequest, VersionNotFound
from models.manifest import ArtifactKind
from models.policy import ModelPolicy
from models.rollout import BEFORE_ANY_EVENT, Action, Event, standings
from models.store import DEFAULT_ROOT


def plan_challenge(
    path: Path,
    model: str,
    version: int,
    author: Author,
    *,
    role: policy_entry.Role = "challengers",
    share: float,
    artifact: ArtifactKind | None = None,
) -> Change:
    """Plan to load a version beside the champion and give it a share of the traffic, or of copies of it.

    Raises ModelNotFound, VersionNotFound, InvalidConfig, and Conflict where it cannot stand in for the champion.
    """
    before = ServeConfig.read(path)
    champion = before.model(model).champion
    store = before.store(model)
    check_artifact(store.manifest(model, version), artifact)
    if version == champion:
        raise Conflict(f"{model} version {version} is the champion; it cannot challenge itself")

    def edit(config: ServeConfig) -> None:
        like = None if config.has(model, version) else champion
        config.add_version(model, version, _store_argument(config, model), artifact, like)
        policy_entry.set_share(config.entry(model), role, version, share)

    action: Action = "challenge" if role == "challengers" else "shadow"
    event = author.event(model, version, action, share=share)
    return _with_stand_ins(_checked(path, before, edit, model, (version,), (event,)))


def plan_promote(path: Path, model: str, version: int, author: Author) -> Change:
    """Plan to make a version champion; the former one stays, warm, without traffic. Raises as `plan_challenge`."""
    before = ServeConfig.read(path)
    policy = _policy_with(before, model, version)
    if version == policy.champion:
        raise Conflict(f"{model} version {version} is the champion already")
    event = author.event(model, version, "promote", champion=version, evidence={"former_champion": policy.champion})
    change = _checked(path, before, _promotion(model, version), model, (version,), (event,))
    check_compatible(before.store(model), model, policy.champion, [version])
    return _with_stand_ins(change)


def plan_rollback(path: Path, model: str, author: Author) -> Change:
    """Plan to take back the newest decision.

    Challengers that have traffic lose it. Where none has, or all had theirs before the last promotion, the champion
    before that answers again, and the present one stays, warm, without traffic. Raises Conflict where there is nothing
    to take back.
    """
    before = ServeConfig.read(path)
    policy, events = before.model(model), before.history(model).events()
    stand = standings(events, policy)
    running = [version for version in policy.challengers if stand[version].share > 0]
    if running and not _is_promotion_newer(events, policy, running):
        shares = dict.fromkeys(running, 0.0)
        made = [author.event(model, version, "rollback", share=0.0) for version in running]
        return _checked(path, before, _weights(model, shares), model, (), made)
    former = former_champion(events, model, policy)
    event = author.event(model, policy.champion, "rollback", share=0.0, champion=former)
    return _checked(path, before, _promotion(model, former), model, (former,), (event,))


def _is_promotion_newer(events: Sequence[Event], policy: ModelPolicy, challengers: Sequence[int]) -> bool:
    """Whether a promotion that can be taken back came after these challengers were given traffic."""
    promotions = _promotions(events)
    if not promotions or promotions[-1].champion != policy.champion:
        return False
    if promotions[-1].evidence.get("former_champion") not in policy.versions:
        return False
    given = [event.time for event in events if event.action in GIVING and event.version in challengers]
    return promotions[-1].time > max(given, default=BEFORE_ANY_EVENT)


GIVING: frozenset[Action] = frozenset({"challenge", "weights"})
"""What gives a challenger traffic; the referee's steps only go on with that."""


def _promotions(events: Sequence[Event]) -> list[Event]:
    """Promotions that were not taken back, oldest first."""
    promotions: list[Event] = []
    for event in events:
        if event.action == "promote":
            promotions.append(event)
        elif event.champion is not None and event.action == "rollback":
            promotions[-1:] = []
        elif event.champion is not None:
            promotions.clear()  # a first version: the model was deployed anew
    return promotions


def former_champion(events: Sequence[Event], model: str, policy: ModelPolicy) -> int:
    """Who answered before the last promotion that was not taken back. Raises Conflict."""
    promotions = _promotions(events)
    former = promotions[-1].evidence.get("former_champion") if promotions else None
    if not isinstance(former, int):
        raise Conflict(f"there is nothing to roll back: no challenger of {model} has traffic, and no promotion is left")
    if promotions[-1].champion != policy.champion:
        raise Conflict(
            f"{model} version {promotions[-1].champion} was promoted last, but version {policy.champion} is the"
            " champion: somebody edited the file; `tiltyard promote` the version that you want"
        )
    if former not in policy.versions:
        raise Conflict(
            f"{model} version {former}, the former champion, was retired; `tiltyard challenge {model} {former}`, then"
            " promote it"
        )
    return former


def plan_retire(path: Path, model: str, version: int, author: Author) -> Change:
    """Plan to stop a challenger or a shadow and to unload it. Raises ModelNotFound, VersionNotFound, Conflict."""
    before = ServeConfig.read(path)
    policy = _policy_with(before, model, version)
    if version == policy.champion:
        raise Conflict(f"{model} version {version} is the champion; promote another version first")
    for label, named in policy.labels.items():
        if named == version:
            raise Conflict(f"{model} version {version} is what the label {label!r} names; let it name another first")
    event = author.event(model, version, "retire")
    return _checked(path, before, lambda config: config.remove_version(model, version), model, (), (event,))


def plan_weights(path: Path, model: str, shares: Mapping[int, float], author: Author) -> Change:
    """Plan other shares for challengers. Raises ModelNotFound, VersionNotFound, InvalidConfig, Conflict."""
    before = ServeConfig.read(path)
    for version in shares:
        policy = _policy_with(before, model, version)
        if version not in policy.challengers:
            raise Conflict(
                f"{model} version {version} is the {policy.variant(version)}; only challengers have weights, and"
                " the champion answers the rest"
            )
    events = [author.event(model, version, "weights", share=share) for version, share in shares.items()]
    answering = tuple(version for version, share in shares.items() if share > 0)
    return _with_stand_ins(_checked(path, before, _weights(model, shares), model, answering, events))


def parse_weights(texts: Sequence[str]) -> dict[int, float]:
    """Read VERSION=SHARE. Raises InvalidRequest."""
    shares: dict[int, float] = {}
    for text in texts:
        number, _, share = text.partition("=")
        try:
            version, value = int(number), float(share)
        except ValueError:
            raise InvalidRequest(f"{text!r}: expected VERSION=SHARE, as in 2=0.1") from None
        if version in shares:
            raise InvalidRequest(f"version {version} is given two shares")
        shares[version] = value
    return shares


def _checked(
    path: Path,
    before: ServeConfig,
    edit: Callable[[ServeConfig], None],
    model: str,
    answering: tuple[int, ...],
    events: Sequence[Event],
) -> Change:
    """Edit, and check the file as a whole."""
    after = before.edited(edit)
    check(after)
    return Change(path, before, after, model, answering, tuple(events))


def _with_stand_ins(change: Change) -> Change:
    """Hold whoever will be sent the champion's requests against the champion. Raises Conflict."""
    config, model = change.after, change.model
    check_stand_ins(config.store(model), model, config.model(model), change.loaded)
    return change


def _policy_with(config: ServeConfig, model: str, version: int) -> ModelPolicy:
    """The model's policy, in which the version is live. Raises ModelNotFound, VersionNotFound."""
    policy = config.model(model)
    if version not in policy.versions:
        live = ", ".join(map(str, sorted(policy.versions)))
        raise VersionNotFound(
            f"{model} version {version} is not deployed; there are: {live}. `tiltyard challenge {model} {version}`"
            " loads it"
        )
    return policy


def _promotion(model: str, version: int) -> Callable[[ServeConfig], None]:
    return lambda config: policy_entry.promote(config.entry(model), version)


def _weights(model: str, shares: Mapping[int, float]) -> Callable[[ServeConfig], None]:
    def edit(config: ServeConfig) -> None:
        entry = config.entry(model)  # once: half of the shares may be no policy
        for version, share in shares.items():
            policy_entry.set_share(entry, "challengers", version, share)

    return edit


def _store_argument(config: ServeConfig, model: str) -> str:
    """The champion's store, as the file writes it."""
    args = config.application(model, config.model(model).champion).get("args") or {}
    return str(args.get("store", portable(DEFAULT_ROOT)))
