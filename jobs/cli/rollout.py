"""`tiltyard challenge`, `weights`, `promote`, `rollback`, `retire`: who answers, changed while it runs."""

from typing import Annotated

import typer

from jobs.cli.carried_out import Options, author, carried_out
from jobs.cli.options import (
    CONFIG,
    AddressOption,
    ArtifactOption,
    BecauseOption,
    ByOption,
    DryRunOption,
    FileOption,
    JsonOption,
    ModelArgument,
    TimeoutOption,
    VersionArgument,
)
from jobs.service import DASHBOARD
from models.errors import InvalidRequest

WEIGHT, SAMPLE = 0.05, 0.2


def challenge(
    name: ModelArgument,
    version: VersionArgument,
    weight: Annotated[
        float | None,
        typer.Option(help="Share of the traffic that it answers: 0.1 is a tenth.", show_default=str(WEIGHT)),
    ] = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Send it copies only; it never answers.")] = False,
    sample: Annotated[
        float | None, typer.Option(help="Share of the requests that a shadow is sent.", show_default=str(SAMPLE))
    ] = None,
    artifact: ArtifactOption = None,
    file: FileOption = CONFIG,
    dry_run: DryRunOption = False,
    timeout: TimeoutOption = 180.0,
    address: AddressOption = DASHBOARD,
    because: BecauseOption = None,
    by: ByOption = "operator",
    as_json: JsonOption = False,
) -> None:
    """Let a published version meet the champion on live traffic, as a challenger or as a shadow.

    It is loaded beside the champion, with the champion's settings, warmed up and held against its golden outputs;
    then it gets its share, in steps if the model has a `ramp`. If it fails to load, nothing changes. Of a version that
    is loaded already only the part it plays changes, without a restart: another weight, shadow to challenger and back,
    or a new start after it was stopped. A version with other inputs, outputs or labels is refused.

    tiltyard challenge digits 2 --weight 0.1

    tiltyard challenge digits 2 --shadow --sample 0.5
    """
    from jobs.rollout import plan_challenge

    if shadow and weight is not None:
        raise InvalidRequest("--weight: a shadow answers nothing; --sample says how much it is sent")
    if sample is not None and not shadow:
        raise InvalidRequest("--sample: only a --shadow is sent samples; --weight is what a challenger answers")
    given = sample if shadow else weight
    share = (SAMPLE if shadow else WEIGHT) if given is None else given
    carried_out(
        lambda: plan_challenge(
            file,
            name,
            version,
            author(by, because),
            role="shadows" if shadow else "challengers",
            share=share,
            artifact=artifact,
        ),
        Options(file, dry_run, timeout, address, as_json),
    )


def weights(
    name: ModelArgument,
    shares: Annotated[list[str], typer.Argument(metavar="VERSION=SHARE...", help="0.1 is a tenth of the traffic.")],
    file: FileOption = CONFIG,
    dry_run: DryRunOption = False,
    timeout: TimeoutOption = 60.0,
    address: AddressOption = DASHBOARD,
    because: BecauseOption = None,
    by: ByOption = "operator",
    as_json: JsonOption = False,
) -> None:
    """Give challengers other shares of the traffic, all at once; the champion answers the rest.

    Challengers that are not named keep theirs. With a `ramp`, one that is named begins at its first step again.

    tiltyard weights digits 2=0.2 3=0.1
    """
    from jobs.rollout import parse_weights, plan_weights

    given = parse_weights(shares)
    carried_out(
        lambda: plan_weights(file, name, given, author(by, because)),
        Options(file, dry_run, timeout, address, as_json),
    )


def promote(
    name: ModelArgument,
    version: VersionArgument,
    file: FileOption = CONFIG,
    dry_run: DryRunOption = False,
    timeout: TimeoutOption = 60.0,
    address: AddressOption = DASHBOARD,
    because: BecauseOption = None,
    by: ByOption = "operator",
    as_json: JsonOption = False,
) -> None:
    """Make a challenger or a shadow the champion.

    The former champion stays loaded, as a challenger without traffic, so that `tiltyard rollback` is instant; `tiltyard
    retire` unloads it. Nothing is restarted.

    tiltyard promote digits 2
    """
    from jobs.rollout import plan_promote

    carried_out(
        lambda: plan_promote(file, name, version, author(by, because)),
        Options(file, dry_run, timeout, address, as_json),
    )


def rollback(
    name: ModelArgument,
    file: FileOption = CONFIG,
    dry_run: DryRunOption = False,
    timeout: TimeoutOption = 60.0,
    address: AddressOption = DASHBOARD,
    because: BecauseOption = None,
    by: ByOption = "operator",
    as_json: JsonOption = False,
) -> None:
    """Take back the newest decision: challengers lose their traffic, or the former champion answers again.

    The former champion is the one before the last `promote`; it answers again where no challenger was given traffic
    after that. A challenger that was stopped already has none. Each further rollback goes back one more. Who loses
    stays loaded, without traffic. Shadows stay.

    tiltyard rollback digits --dry-run
    """
    from jobs.rollout import plan_rollback

    carried_out(
        lambda: plan_rollback(file, name, author(by, because)), Options(file, dry_run, timeout, address, as_json)
    )


def retire(
    name: ModelArgument,
    version: VersionArgument,
    file: FileOption = CONFIG,
    dry_run: DryRunOption = False,
    timeout: TimeoutOption = 60.0,
    address: AddressOption = DASHBOARD,
    because: BecauseOption = None,
    by: ByOption = "operator",
    as_json: JsonOption = False,
) -> None:
    """Stop a challenger or a shadow and unload it; it stays in the store.

    Its traffic goes to the champion first, then it answers what it has, then it ends. The champion cannot be retired.

    tiltyard retire digits 1
    """
    from jobs.rollout import plan_retire

    carried_out(
        lambda: plan_retire(file, name, version, author(by, because)),
        Options(file, dry_run, timeout, address, as_json),
    )
