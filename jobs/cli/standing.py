"""`tiltyard status` and `history`: where rollouts stand, and how they came there."""

from dataclasses import asdict
from typing import Annotated

import typer

from jobs.cli.carried_out import print_json
from jobs.cli.options import CONFIG, AddressOption, FileOption, JsonOption, ModelArgument
from jobs.printing import out
from jobs.rollout_printing import print_history, print_status
from jobs.service import DASHBOARD


def status(
    name: Annotated[str | None, typer.Argument(help="Name of the model; all of them by default.")] = None,
    file: FileOption = CONFIG,
    address: AddressOption = DASHBOARD,
    as_json: JsonOption = False,
) -> None:
    """Tell where each version stands: declared, now, what runs, what was measured.

    `declared` is what the file says, `now` where a ramp or a rollback has brought it. Requests and latencies are the
    gateway's, where one runs.

    tiltyard status digits
    """
    from jobs.change import running_service
    from jobs.rollout_status import statuses
    from jobs.serve_config import ServeConfig

    service = running_service(address)
    found = statuses(ServeConfig.read(file), name, service)
    if as_json:
        print_json(running=service is not None, models=[asdict(each) for each in found])
        return
    print_status(found)
    if service is None:
        out.print(f"No service runs at {address}.")


def history(name: ModelArgument, file: FileOption = CONFIG, as_json: JsonOption = False) -> None:
    """Print every decision about a model: when, who, what, why, and on which numbers.

    It is only ever appended to: `NAME/history.jsonl` in the gateway's store, of a model that is no longer served too.

    tiltyard history digits --json
    """
    from jobs.serve_config import ServeConfig

    events = ServeConfig.read(file).history(name).events()
    if as_json:
        print_json(model=name, events=[event.model_dump(mode="json") for event in events])
    elif events:
        print_history(events)
    else:
        out.print(f"Nothing was decided about {name} yet.", markup=False)
