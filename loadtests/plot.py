"""One picture: how many requests each server answers per second, longer is better."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from loadtests.results import Results
from loadtests.rounds import LIMIT
from loadtests.tables import number, ordered
from loadtests.workloads import ROOT

PLOT = ROOT / "docs" / "comparison.svg"
OURS_COLOUR, OTHERS_COLOUR, LIMIT_COLOUR = "#0b6e4f", "#b8bfc6", "#333333"
BAR_INCHES = 0.27


def draw(
    results: Results, titles: Mapping[str, str], workloads: Mapping[str, str], ours: Collection[str], path: Path = PLOT
) -> None:
    """Write an SVG: a panel per workload, a bar per server, a dashed line where the machine itself ends."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    level = results.levels("closed")[-1]
    names = results.workloads
    bars = [len(results.peers(name)) for name in names]
    # Text stays text, and two runs on the same numbers give the same file.
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tiltyard", "font.size": 9}):
        figure, axes = pyplot.subplots(
            len(names),
            1,
            figsize=(8, sum(bars) * BAR_INCHES + 0.7 * len(names)),
            squeeze=False,
            height_ratios=bars,
            layout="constrained",
        )
        for axis, name in zip(axes[:, 0], names, strict=True):
            panel(axis, results, name, level, titles, ours)
            axis.set_title(f"{workloads.get(name, name)}: requests per second, {level:g} clients", loc="left")
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def panel(
    axis: Any, results: Results, workload: str, level: float, titles: Mapping[str, str], ours: Collection[str]
) -> None:
    """One workload, the fastest server on top."""
    rates = {
        peer: results.median(workload, peer, "closed", level, lambda m: m.rps) or 0.0
        for peer in ordered(results, workload, level)
    }
    limit = rates.pop(LIMIT, 0.0)
    most = max(rates.values(), default=1.0)
    colours = [OURS_COLOUR if peer in ours else OTHERS_COLOUR for peer in rates]
    drawn = axis.barh([titles.get(peer, peer) for peer in rates], list(rates.values()), color=colours)
    axis.bar_label(drawn, [f" {number(rate)}" for rate in rates.values()])
    axis.invert_yaxis()
    if 0 < limit < 3 * most:  # a model of microseconds would squeeze every bar to nothing
        axis.axvline(limit, color=LIMIT_COLOUR, linestyle="--", linewidth=1)
        most = max(most, limit)
        side = "right" if limit > most / 2 else "left"  # where the text has room
        axis.annotate(
            " the machine without a server ", (limit, len(rates) - 0.5), ha=side, va="bottom", color=LIMIT_COLOUR
        )
    axis.set_xlim(0, most * 1.12)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.set_xticks([])
