"""`tiltyard serve`."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs.cli.options import CONFIG
from jobs.cli.rollout import WEIGHT
from jobs.policy_entry import Role
from jobs.printing import out, print_addresses
from models.errors import InvalidRequest

Watched = Literal["challenger", "shadow"]


def serve(
    file: Annotated[Path, typer.Argument(help="What runs.")] = CONFIG,
    watch: Annotated[
        Watched | None,
        typer.Option(help="Let versions that appear in the store join as this.", show_default=False),
    ] = None,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="With --watch: their share of the traffic, or of copies.")
    ] = WEIGHT,
) -> None:
    """Run `serve run FILE` with Ray Serve's fast ingress; train the digits first if they are not published yet.

    With --watch, a new numbered directory in the store of a model that is served is loaded beside its champion once it
    is whole, and FILE is edited as `tiltyard challenge` does. One that does not load changes nothing.

    tiltyard serve --watch shadow --share 1
    """
    from jobs.newcomers import Newcomers
    from jobs.serve import Serving, unpublished

    for model, version, store in unpublished(file):
        if model != "digits" or version not in (1, 2):
            raise InvalidRequest(f"{file} names {model} version {version}, which is not published; `tiltyard list`")
        # In a process of its own: TensorFlow would stay in the memory of this one for as long as it serves.
        trained = subprocess.run([sys.argv[0], "train", "digits", "--store", str(store)], check=False)
        if trained.returncode != 0:
            sys.exit(trained.returncode)
        break
    for end in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, lambda number, _: sys.exit(128 + number))
    serving = Serving(file)
    newcomers = None
    try:
        if serving.wait_until_healthy(lambda text: out.print(text, markup=False)):
            print_addresses(serving.address, serving.dashboard)
            if watch is not None:
                role: Role = "shadows" if watch == "shadow" else "challengers"
                newcomers = Newcomers(file, serving.dashboard, role, share, lambda text: out.print(text, markup=False))
                newcomers.start()
        code = serving.wait()
    except KeyboardInterrupt:
        out.print("\nStopping ...")
        code = 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
        if newcomers is not None:
            newcomers.stop()
        serving.stop()
    sys.exit(code)
