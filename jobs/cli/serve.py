"""`tiltyard serve`."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.options import CONFIG
from jobs.printing import out, print_addresses
from models.errors import InvalidRequest


def serve(
    file: Annotated[Path, typer.Argument(help="What runs.")] = CONFIG,
) -> None:
    """Run `serve run FILE` with Ray Serve's fast ingress; train the digits first if they are not published yet."""
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
    try:
        if serving.wait_until_healthy(lambda text: out.print(text, markup=False)):
            print_addresses(serving.address, serving.dashboard)
        code = serving.wait()
    except KeyboardInterrupt:
        out.print("\nStopping ...")
        code = 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
        serving.stop()
    sys.exit(code)
