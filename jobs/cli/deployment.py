"""`tiltyard deploy` and `undeploy`."""

from typing import Annotated

import typer
from rich.markup import escape

from jobs.cli.carried_out import author
from jobs.cli.options import (
    CONFIG,
    AddressOption,
    ArtifactOption,
    DryRunOption,
    FileOption,
    StoreOption,
    TimeoutOption,
    parse_version,
    version_number,
)
from jobs.printing import err, out, print_diff
from jobs.rollout_printing import print_plan
from jobs.service import DASHBOARD
from models.store import DEFAULT_ROOT, Store


def deploy(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The newest version by default.")],
    file: FileOption = CONFIG,
    artifact: ArtifactOption = None,
    dry_run: DryRunOption = False,
    timeout: TimeoutOption = 180.0,
    address: AddressOption = DASHBOARD,
    store: StoreOption = DEFAULT_ROOT,
) -> None:
    """Serve a published version: write it into serve_config.yaml and apply that to the running service.

    NAME alone follows the model's `version_policy`, of a model that is not served yet its latest version: the newest
    version becomes champion once it is loaded and warm; then those that the policy leaves out are unloaded. Where the
    file names a champion, and with NAME@VERSION, nothing that runs is touched: the version is loaded beside the
    champion without traffic of its own, to be asked by ?version=N; the first one of a model becomes its champion.
    """
    from jobs import change as changes
    from jobs.deploy import plan_deploy
    from jobs.memory import needed_bytes
    from jobs.serve_config import ServeConfig
    from jobs.version_policy import check_published, plan_live
    from models.machine import available_bytes

    opened = Store(store)
    model, version = parse_version(name, opened)
    with changes.alone(file):
        config = ServeConfig.read(file)
        if "@" in name or (model in config.declared.models and model not in config.declared.open_models):
            change = plan_deploy(file, opened, model, version, artifact, author())
        else:
            check_published(config, model, opened.versions(model))
            change = plan_live(file, opened, model, opened.versions(model), author(), artifact)
            version = change.after.model(model).champion
        print_diff(change.diff)
        if dry_run:
            print_plan(change.loaded, change.unloaded, needed_bytes(change), available_bytes())
            return
        service = changes.running_service(address)
        with err.status(f"deploying {model} version {version}") as status:
            changes.carry_out(change, service, timeout, lambda text: status.update(escape(text)))
    if service is None:
        out.print(f"No service runs at {address}: {file} is written, `make serve` will serve it.")
    else:
        out.print(f"[green]{model} version {version} answers[/] at {service.gateway_address}/models/{model}")


def undeploy(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The whole model if no version is given.")],
    file: FileOption = CONFIG,
    dry_run: DryRunOption = False,
    timeout: TimeoutOption = 60.0,
    address: AddressOption = DASHBOARD,
) -> None:
    """Stop serving a version or a model; it stays in the store."""
    from jobs import change as changes
    from jobs import deploy
    from jobs.memory import needed_bytes
    from models.machine import available_bytes

    model, _, number = name.partition("@")
    with changes.alone(file):
        change = deploy.plan_undeploy(file, model, version_number(number) if number else None, author())
        print_diff(change.diff)
        if dry_run:
            print_plan(change.loaded, change.unloaded, needed_bytes(change), available_bytes())
            return
        service = changes.running_service(address)
        with err.status(f"undeploying {name}") as status:
            changes.carry_out(change, service, timeout, lambda text: status.update(escape(text)))
    if service is None:
        out.print(f"No service runs at {address}: {file} is written.")
    else:
        out.print(f"[green]{name} is no longer served.[/]")
