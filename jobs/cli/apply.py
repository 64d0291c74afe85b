"""The command `tiltyard apply`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from jobs.cli.carried_out import author, print_json
from jobs.cli.options import CONFIG, AddressOption, BecauseOption, DryRunOption, JsonOption, TimeoutOption
from jobs.printing import err, out, print_diff
from jobs.service import DASHBOARD, Service


def apply(
    file: Annotated[Path, typer.Argument(help="What is to run.")] = CONFIG,
    dry_run: DryRunOption = False,
    timeout: TimeoutOption = 180.0,
    address: AddressOption = DASHBOARD,
    because: BecauseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a serve_config.yaml that was edited by hand true: a guard, a ramp, what requests stick by, or all of it.

    It is checked as a whole first: a policy that is none, a version that does not exist or could not stand in for its
    champion is refused, and nothing changes. New versions are loaded before a request is sent to them, and none is
    sent to those that end. `serve deploy` does the same unchecked, at once, and without a line in the history.

    tiltyard apply --dry-run
    """
    from jobs.apply import carry_out_apply, plan_apply
    from jobs.change import alone

    with alone(file):
        service = Service(address)
        plan = plan_apply(file, service, author(because=because))
        if not as_json:
            print_diff(plan.diff)
            for what, names in (("Loaded", plan.started), ("Restarted", plan.restarted), ("Unloaded", plan.ended)):
                if names:
                    out.print(f"{what}: {', '.join(names)}.", markup=False)
        if plan.diff and not dry_run:
            with err.status(f"applying {file}") as shown:
                carry_out_apply(plan, service, timeout, lambda text: shown.update(escape(text)))
    if as_json:
        print_json(
            dry_run=dry_run,
            applied=bool(plan.diff) and not dry_run,
            diff=plan.diff,
            loaded=plan.started,
            restarted=plan.restarted,
            unloaded=plan.ended,
        )
    elif dry_run:
        out.print("Nothing was changed: this is a dry run.")
    elif plan.diff:
        out.print(f"[green]{escape(str(file))} is true[/] at {service.gateway_address}")
