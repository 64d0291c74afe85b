"""How much traffic a verdict takes, and how often a single check is wrong when one looks after every request."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.simulation import Array, harmful
from models.policy import Guard
from models.sequential import Comparison, Interval, interval, rate

Looks = npt.NDArray[np.int64]

GUARDS = 5
"""How many are on unless the policy says otherwise."""

SIGNIFICANCE = Guard().significance
COLOURS = "#0b6e4f", "#c1666b"


def looks(last: int) -> Looks:
    """Numbers of the challenger's requests at which one looks: after each of 300, then every 2 %."""
    found = list(range(1, min(300, last) + 1))
    while found[-1] < last:
        found.append(int(found[-1] * 1.02))
    return np.array(found)


def difference(
    champion: float,
    challenger: float,
    share: float,
    limit: float,
    alphas: tuple[float, float],
    at: Looks,
    runs: int,
    dice: np.random.Generator,
) -> Interval:
    """Bounds of the difference of two rates at every look, of shape [runs, looks], at one share of the traffic."""
    others = np.round(at * (1 - share) / share).astype(np.int64)
    arms = [
        rate(
            np.cumsum(dice.binomial(np.diff(count, prepend=0), true, (runs, len(at))), axis=1).astype(np.float64),
            count.astype(np.float64),
        )
        for count, true in ((others, champion), (at, challenger))
    ]
    return interval(Comparison(((arms[0], arms[1]),)), limit, *alphas)


def wrong_verdicts(base: float, share: float, limit: float, runs: int, seed: int) -> tuple[float, float]:
    """How often an equal challenger is ever stopped, and one that is worse by the limit ever passes.

    One guard with the whole significance, over 20,000 requests to the challenger.
    """
    dice, at, alphas = np.random.default_rng(seed), looks(20_000), (SIGNIFICANCE, SIGNIFICANCE)
    equal = difference(base, base, share, limit, alphas, at, runs, dice)
    worse = difference(base, base + limit, share, limit, alphas, at, runs, dice)
    return float(harmful(equal, limit).any(1).mean()), float(np.less(worse.high, limit).any(1).mean())


def requests_to_stop(base: float, loss: float, limit: float, runs: int, seed: int, last: int = 200_000) -> Array:
    """The challenger's requests until one guard of five stops it, at a share of 1 %; inf where it never did."""
    dice, at = np.random.default_rng(seed), looks(last)
    alphas = SIGNIFICANCE / GUARDS, SIGNIFICANCE
    stops = harmful(difference(base, min(1.0, base + loss), 0.01, limit, alphas, at, runs, dice), limit)
    return np.where(stops.any(1), at[stops.argmax(1)], np.inf)


def requests_to_pass(base: float, limit: float, runs: int, seed: int, last: int = 200_000) -> Array:
    """The challenger's requests until one guard passes an equal one, at a share of 1 %; inf where it never did."""
    dice, at = np.random.default_rng(seed), looks(last)
    found = difference(base, base, 0.01, limit, (SIGNIFICANCE / GUARDS, SIGNIFICANCE), at, runs, dice)
    passes = np.less(found.high, limit)
    return np.where(passes.any(1), at[passes.argmax(1)], np.inf)


def draw_curves(curves: dict[str, dict[float, Array]], limit: float, path: Path) -> None:
    """Write an SVG of the traffic needed to stop a challenger against how much worse it is: median to 90th percentile.

    `curves` has for each check the requests needed in every run, by the true loss.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot, ticker

    # Text stays text, and two runs on the same numbers give the same file.
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tiltyard", "font.size": 9}):
        figure, axis = pyplot.subplots(figsize=(8, 4), layout="constrained")
        for (name, curve), colour in zip(curves.items(), COLOURS, strict=True):
            _curve(axis, name, curve, colour)
        axis.axvline(100 * limit, color="#333333", linestyle="--", linewidth=1)
        axis.annotate(" accepted loss", (100 * limit, 1), xycoords=("data", "axes fraction"), va="top", color="#333333")
        axis.set(xscale="log", yscale="log", xlabel="points worse than the champion")
        axis.set_title(
            "Requests to the challenger until it is stopped: median, and up to the 90th percentile", loc="left"
        )
        for each in (axis.xaxis, axis.yaxis):
            each.set_major_formatter(ticker.StrMethodFormatter("{x:,g}"))
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def _curve(axis: Any, name: str, curve: dict[float, Array], colour: str) -> None:
    losses = [100 * loss for loss in curve]
    median, ninth = ([np.quantile(needed, share, method="higher") for needed in curve.values()] for share in (0.5, 0.9))
    axis.plot(losses, median, color=colour, marker="o", markersize=3, label=name)
    axis.fill_between(losses, median, ninth, color=colour, alpha=0.2, linewidth=0)
