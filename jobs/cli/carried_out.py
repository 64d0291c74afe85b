"""What every command does with the change it planned: show it, carry it out, say what is true now."""

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.markup import escape

from jobs.author import Author
from jobs.printing import err, out, print_diff
from jobs.rollout_printing import print_parts, print_plan
from jobs.rollout_status import Part, parts_of


@dataclass(frozen=True, slots=True)
class Options:
    """How a command changes what runs."""

    file: Path
    dry_run: bool
    timeout_s: float
    address: str
    as_json: bool = False


def author(by: str = "operator", because: str | None = None) -> Author:
    """Who types the command; the command itself is the reason where none is given."""
    return Author(by, because or shlex.join(["tiltyard", *sys.argv[1:]]))


def carried_out(plan: Callable[[], Any], options: Options) -> None:
    """Plan a change, show what it means, and unless it is a dry run, make it true and print before and after."""
    from jobs import change as changes
    from jobs.memory import needed_bytes
    from models.machine import available_bytes

    with changes.alone(options.file):
        change: changes.Change = plan()
        before = parts_of(change.before, change.model)
        needed, free = needed_bytes(change), available_bytes()
        if not options.as_json:
            print_diff(change.diff)
        if not options.as_json and (options.dry_run or needed > free):
            print_plan(change.loaded, change.unloaded, needed, free)
        service = None
        if options.dry_run:
            after = parts_of(change.after, change.model, change.events)
        else:
            service = changes.running_service(options.address)
            with err.status(f"changing {change.model}") as shown:
                changes.carry_out(change, service, options.timeout_s, lambda text: shown.update(escape(text)))
            after = parts_of(change.after, change.model)
    if options.as_json:
        print_json(
            model=change.model,
            dry_run=options.dry_run,
            applied=service is not None,
            before=_plain(before),
            after=_plain(after),
            diff=change.diff,
            loaded=change.loaded,
            unloaded=change.unloaded,
            memory={"needed_bytes_estimate": needed, "available_bytes": free},
        )
        return
    print_parts(before, after)
    if options.dry_run:
        out.print("Nothing was changed: this is a dry run.")
    elif service is None:
        out.print(f"No service runs at {options.address}: {options.file} is written, `make serve` will serve it.")


def print_json(**values: Any) -> None:
    """Print one JSON object on a line."""
    out.print(json.dumps(values, default=datetime.isoformat), markup=False, soft_wrap=True)


def _plain(parts: list[Part]) -> list[dict[str, Any]]:
    return [asdict(part) for part in parts]
