"""Tiltyard against its peers on the same models and the same bytes: `make bench`, `make bench-quick`.

Every server is started on its own, has to answer what the model answers in process, and is then loaded by wrk (closed
loop) and by loadtests/open_loop.py (fixed arrival rate).
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from loadtests.environments import make_environment
from loadtests.machine import describe
from loadtests.ours import OURS
from loadtests.peers.catalogue import PEERS
from loadtests.peers.peer import Peer
from loadtests.results import RESULTS, Results
from loadtests.rounds import LIMIT, Plan, run_rounds
from loadtests.tables import insert, render
from loadtests.thresholds import Floor, missed
from loadtests.workloads import ROOT, WORKLOADS, prepare

DOCUMENT = ROOT / "loadtests" / "RESULTS.md"
EVERYONE: dict[str, Peer] = {**OURS, **PEERS}
TITLES = {LIMIT: "in process, no server", **{peer.name: peer.title for peer in EVERYONE.values()}}
WORKLOAD_TITLES = {workload.name: workload.title for workload in WORKLOADS.values()}
DEFAULT_PEERS = ",".join([LIMIT, "tiltyard", "tiltyard-chosen", *PEERS])

HELP = """Measure Tiltyard against other servers on this machine.

All of it, as RESULTS.md has it (about two and a half hours on 2 cores):

    python -m loadtests.bench --rounds 3 --write

One question, in two minutes:

    python -m loadtests.bench --peers limit,tiltyard,mosec --workloads mobilenetv2 --seconds 5 --open ''

What happens at twice the capacity:

    python -m loadtests.bench --peers tiltyard --workloads mobilenetv2 --overload 60

As a test (the exit status is 1 where Tiltyard is behind, or answers anything but 200):

    python -m loadtests.bench --peers limit,tiltyard,fastapi --floor mobilenetv2:limit=0.9 --floor fastapi=1

Close everything else first: on a busy machine only the ratios within a round mean something. wrk has to be installed
(Debian: apt install wrk). The models (trained here: eleven minutes for MobileNetV2, a quarter of an hour and 8 GB of
memory for ResNet50) and the environments of the peers are made when they are first needed, in loadtests/.bench/, where
results.json and each server's output are too."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(help=HELP)
def main(
    peers: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join([LIMIT, *EVERYONE])}.")] = DEFAULT_PEERS,
    workloads: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(WORKLOADS),
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; tables give their medians.")] = 1,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each measurement.")] = 10,
    concurrency: Annotated[str, typer.Option(help="Clients of the closed loops, comma-separated.")] = "1,8,32",
    open_shares: Annotated[
        str, typer.Option("--open", help="Shares of capacity offered at a fixed rate; '' for none.")
    ] = "0.5,0.8",
    overload: Annotated[float, typer.Option(min=0, help="Seconds at twice the capacity.")] = 0,
    cores: Annotated[int, typer.Option(min=1, help="Workers of each server.")] = os.cpu_count() or 1,
    floor: Annotated[
        list[str] | None,
        typer.Option(help="[WORKLOAD:]PEER=RATIO that Tiltyard's throughput must reach; may be repeated."),
    ] = None,
    keep: Annotated[bool, typer.Option(help="Keep what results.json has of other workloads.")] = False,
    write: Annotated[bool, typer.Option(help="Write the tables and the plot to loadtests/RESULTS.md.")] = False,
    render_only: Annotated[bool, typer.Option(help="Measure nothing; show results.json again.")] = False,
) -> None:
    try:
        floors = [Floor.parse(text) for text in floor or []]
    except ValueError as error:
        raise typer.BadParameter(f"--floor {error}") from None
    if render_only:
        results = Results.read()
    else:
        plan = Plan(
            seconds=seconds,
            concurrency=tuple(sorted(map(int, listed(concurrency)))),
            shares=tuple(map(float, listed(open_shares))),
            overload_s=overload,
            cores=cores,
        )
        results = measure(listed(peers), listed(workloads), rounds, plan, keep)
    text = render(results, TITLES, WORKLOAD_TITLES)
    print(f"\n{text}")
    if write:
        write_document(results, text, DOCUMENT)
    if problems := missed(results, floors, set(OURS)):
        print("\n".join(f"FAILED: {problem}" for problem in problems), file=sys.stderr)
        raise SystemExit(1)


def measure(peers: list[str], workloads: list[str], rounds: int, plan: Plan, keep: bool) -> Results:
    """Prepare what is needed, then all rounds."""
    for names, known in ((peers, {LIMIT, *EVERYONE}), (workloads, set(WORKLOADS))):
        if unknown := set(names) - known:
            raise typer.BadParameter(f"{', '.join(sorted(unknown))}: expected {', '.join(sorted(known))}")
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; on Debian and Ubuntu: apt install wrk")
    chosen = [None if name == LIMIT else EVERYONE[name] for name in peers]
    prepare([WORKLOADS[name] for name in workloads], say)
    for peer in chosen:
        if peer is not None:
            make_environment(peer, say)
    results = Results(describe(" ".join(["python -m loadtests.bench", *sys.argv[1:]])))
    if keep and RESULTS.exists():
        results.keep(Results.read(), workloads)
    run_rounds(rounds, [WORKLOADS[name] for name in workloads], chosen, plan, results, say)
    say(f"results: {RESULTS.relative_to(ROOT)}")
    return results


def write_document(results: Results, text: str, document: Path) -> None:
    """Tables and plot for readers."""
    from loadtests.plot import PLOT, draw

    draw(results, TITLES, WORKLOAD_TITLES, OURS, PLOT)
    picture = f"![Throughput of each server]({os.path.relpath(PLOT, document.parent)})"
    insert(f"{picture}\n\n{text}", document)


def listed(text: str) -> list[str]:
    """Comma-separated words."""
    return [word.strip() for word in text.split(",") if word.strip()]


def say(text: str) -> None:
    """A line of progress, at once."""
    print(text, flush=True)


if __name__ == "__main__":
    app()
