"""`tiltyard serve`."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.options import CONFIG
from jobs.printing import out, print_addresses, print_diff
from models.errors import InvalidRequest


def serve(
    file: Annotated[Path, typer.Argument(help="What runs.")] = CONFIG,
    watch: Annotated[bool, typer.Option("--watch", help="Let versions that appear in the store join.")] = False,
) -> None:
    """Run `serve run FILE` with Ray Serve's fast ingress; train the digits first if they are not published yet.

    Of models for which FILE names no champion, it serves what their `version_policy` chooses of the published versions,
    the newest as champion. With --watch it goes on to do so: a new numbered directory in the store is served once it is
    whole, loaded and warm, and FILE is edited as `tiltyard deploy` does. Beside a champion that FILE names it joins as
    the model's `newcomers` say, a shadow unless told otherwise. One that does not load changes nothing.

    tiltyard serve --watch
    """
    from jobs.newcomers import Newcomers, add_missing
    from jobs.serve import Serving, unpublished

    for model, version, store in unpublished(file):
        if model != "digits" or version not in (1, 2):
            raise InvalidRequest(f"{file} names {model} version {version}, which is not published; `tiltyard list`")
        # In a process of its own: TensorFlow would stay in the memory of this one for as long as it serves.
        trained = subprocess.run([sys.argv[0], "train", "digits", "--store", str(store)], check=False)
        if trained.returncode != 0:
            sys.exit(trained.returncode)
        break
    for change in add_missing(file):
        print_diff(change.diff)
    for end in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, lambda number, _: sys.exit(128 + number))
    serving = Serving(file)
    newcomers = None
    try:
        if serving.wait_until_healthy(lambda text: out.print(text, markup=False)):
            print_addresses(serving.address, serving.dashboard)
            newcomers = Newcomers(file, serving.dashboard, lambda text: out.print(text, markup=False))
            newcomers.catch_up()
            if watch:
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
