"""Simulate the referee: how often it is wrong, and how much traffic it needs (docs/referee.md)."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from jobs.power import SIGNIFICANCE, draw_curves, requests_to_pass, requests_to_stop, wrong_verdicts
from jobs.printing import err, out
from jobs.simulation import Array, Outcome, Plan, Scenario, roll_out

DOCS = Path(__file__).resolve().parent.parent / "docs"
BEGIN, END = "<!-- written by make simulate -->\n", "<!-- end -->\n"
LIMIT = 0.02
SCENARIOS = (
    Scenario("equal, error rate 0.2 %"),
    Scenario("equal, error rate 2 %", error_rate=0.02),
    Scenario("equal, error rate drifts 0.2 % → 5 %", error_rate_at_end=0.05),
    Scenario("accuracy 2 points worse", more_wrong=0.02),
    Scenario("error rate 2 points worse", more_errors=0.02),
    Scenario("accuracy 5 points worse", more_wrong=0.05),
)
CURVES: dict[str, tuple[float, tuple[float, ...]]] = {
    "accuracy, champion 90 %": (0.1, (0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 0.9)),
    "error rate, champion 0.2 %": (0.002, (0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 0.998)),
}
BASES = (0.001, 0.01, 0.1, 0.5)
SHARES = (0.01, 0.5)
HEADINGS = (
    """{runs:,} rollouts of each kind, 1 % → 5 % → 25 % → 50 %, {traffic} requests a second, one look a second for
{minutes} minutes, seed {seed}. Requests are median / 90th percentile.

""",
    f"""
A single check with the whole significance of {100 * SIGNIFICANCE:g} %, {100 * LIMIT:g} points accepted, looked at after
each of the first 300 requests to the challenger and then every 2 % up to 20,000:

""",
    """
Requests to the challenger until a verdict, one guard of five, at a share of 1 %, median / 90th percentile. That a
challenger which is less than 2 points worse may have passed before is left out.

""",
)


def rollout_table(outcomes: dict[str, Outcome], plan: Plan) -> Iterator[str]:
    """Rows of Markdown: what became of the rollouts of each scenario."""
    yield "| challenger | stopped by the referee | requests it answered until then | reached its full share |"
    yield " a fixed threshold stops | a repeated z-test stops |\n|---|---|---|---|---|---|\n"
    for name, found in outcomes.items():
        stopped = np.isfinite(found.stopped)
        full = (~stopped & (found.step == len(plan.shares) - 1)).mean()
        cells = (
            name,
            percent(stopped.mean()),
            quantiles(found.requests[stopped]) if stopped.mean() > 0.5 else "",
            percent(full),
            percent(found.threshold_stopped.mean()),
            percent(found.z_test_stopped.mean()),
        )
        yield f"| {' | '.join(cells)} |\n"


def wrong_table(found: dict[tuple[float, float], tuple[float, float]]) -> Iterator[str]:
    """Rows of Markdown: how often a single check is wrong, by base rate and share."""
    yield "| rate of the champion | share of the challenger | equal, ever stopped | worse by the limit, ever passed |\n"
    yield "|---|---|---|---|\n"
    for (base, share), (stopped, passed) in found.items():
        yield f"| {100 * base:g} % | {100 * share:g} % | {percent(stopped)} | {percent(passed)} |\n"


def traffic_table(curves: dict[str, dict[float, Array]], passes: dict[str, Array]) -> Iterator[str]:
    """Rows of Markdown: requests to the challenger until it is stopped, by how much it is worse."""
    yield f"| points worse | {' | '.join(curves)} |\n|---|{'---|' * len(curves)}\n"
    yield f"| equal: until it passes | {' | '.join(quantiles(each) for each in passes.values())} |\n"
    for losses in zip(*curves.values(), strict=True):
        label = " / ".join(dict.fromkeys(f"{100 * loss:g}" for loss in losses))
        cells = (quantiles(curve[loss]) for curve, loss in zip(curves.values(), losses, strict=True))
        yield f"| {label} | {' | '.join(cells)} |\n"


def percent(share: float) -> str:
    """One decimal."""
    return f"{100 * share:.1f} %"


def quantiles(values: Array) -> str:
    """Median and 90th percentile; of runs that never ended, that they did not."""
    shown = (np.quantile(values, share, method="higher") for share in (0.5, 0.9))
    return " / ".join(f"{value:,.0f}" if np.isfinite(value) else "never" for value in shown)


def simulate(runs: int, seconds: int, seed: int, plot: Path | None) -> str:
    """Run it all; return the Markdown."""
    plan = Plan(runs=runs, seconds=seconds)
    outcomes = {}
    for scenario in SCENARIOS:
        err.print(f"{runs} rollouts: {scenario.name}")
        outcomes[scenario.name] = roll_out(scenario, plan, seed)
    err.print(f"{runs} runs of single checks, at {len(BASES) * len(SHARES)} rates and shares")
    wrong = {(base, share): wrong_verdicts(base, share, LIMIT, runs, seed) for base in BASES for share in SHARES}
    curves: dict[str, dict[float, Array]] = {}
    for name, (base, losses) in CURVES.items():
        err.print(f"{runs} runs at {len(losses)} sizes of the loss: {name}")
        curves[name] = {loss: requests_to_stop(base, loss, LIMIT, runs, seed) for loss in losses}
    passes = {name: requests_to_pass(base, LIMIT, runs, seed) for name, (base, _) in CURVES.items()}
    if plot is not None:
        draw_curves(curves, LIMIT, plot)
    return "".join(
        (
            HEADINGS[0].format(runs=runs, minutes=seconds // 60, seed=seed, traffic=plan.requests_per_second),
            *rollout_table(outcomes, plan),
            HEADINGS[1],
            *wrong_table(wrong),
            HEADINGS[2],
            *traffic_table(curves, passes),
        )
    )


def replace_between(text: str, new: str) -> str:
    """The page with its generated part written anew."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + new + "\n" + END + rest.split(END)[1]


def main(
    runs: Annotated[int, typer.Option(min=1, help="Rollouts of each kind.")] = 2000,
    seconds: Annotated[int, typer.Option(min=1, help="How long each lasts, one look a second.")] = 1800,
    seed: Annotated[int, typer.Option(help="The same seed gives the same numbers.")] = 1,
    write: Annotated[bool, typer.Option("--write", help="Write docs/referee.md and docs/referee.svg.")] = False,
) -> None:
    """Print what the referee does in thousands of simulated rollouts."""
    began = time.monotonic()
    found = simulate(runs, seconds, seed, DOCS / "referee.svg" if write else None)
    if write:
        page = DOCS / "referee.md"
        page.write_text(replace_between(page.read_text(), found))
    out.print(found, markup=False, soft_wrap=True)
    err.print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    typer.run(main)
