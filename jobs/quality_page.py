"""A model's quality as a page for people who were not there: one file that needs no network, no script and no font."""

from jobs.agreement_matrix import MAX_CLASSES, Matrix, matrix
from jobs.number_words import percent
from jobs.pages import environment
from jobs.quality import Quality, VariantQuality
from jobs.quality_charts import reliability, timeline
from jobs.quality_words import (
    FEW_LABELS,
    calibration_error,
    interval,
    labels,
    name,
    optional_percent,
    over_or_under,
    period_name,
    stands_for,
    summary,
)

MAX_ROWS = 200
"""Periods, and classes of a version, that are listed; `--json` has all."""

LONGEST_HEAD = 12


def quality_page(quality: Quality) -> str:
    """The whole HTML document. Everything that came from outside is escaped."""
    labelled = [each for each in quality.variants if each.labels]
    return (
        environment(
            percent=percent,
            optional_percent=lambda share: optional_percent(share) or "–",
            interval=interval,
            labels=labels,
            name=name,
            stands_for=stands_for,
            calibration_error=calibration_error,
            over_or_under=over_or_under,
            reliability=reliability,
            paint=_paint,
            short=_short,
        )
        .get_template("quality.html.jinja")
        .render(
            quality=quality,
            summary=summary(quality),
            few=any(each.labels < FEW_LABELS for each in labelled),
            labelled=labelled,
            timeline=timeline(quality),
            periods=_periods(quality),
            matrices={name(each): _matrix(each) for each in labelled},
            max_classes=MAX_CLASSES,
            max_rows=MAX_ROWS,
        )
    )


def _periods(quality: Quality) -> list[tuple[str, list[tuple[str, str]]]]:
    """Every period, newest first, with accuracy and labels of each version and role."""
    cells: dict[str, dict[str, tuple[str, str]]] = {}
    for each in quality.variants:
        for period in each.periods:
            shown = (interval(period.accuracy), f"{period.labels:,}")
            cells.setdefault(period_name(period, quality), {})[name(each)] = shown
    names = [name(each) for each in quality.variants]
    return [(start, [cells[start].get(each, ("", "")) for each in names]) for start in sorted(cells, reverse=True)]


def _matrix(of: VariantQuality) -> Matrix | None:
    return matrix((each.true, each.said, round(each.weight)) for each in of.confusion)


def _short(name: str) -> str:
    """A class in the head of a row or column; the whole name is its title."""
    return name if len(name) <= LONGEST_HEAD else f"{name[: LONGEST_HEAD - 1]}…"


def _paint(shown: Matrix, true: str, said: str) -> str:
    """The colour of a cell: right or wrong, and how strong as a share of what is truly that class."""
    count = shown.count(true, said)
    if not count:
        return ""
    strength = 8 + round(62 * count / sum(shown.count(true, each) or 0 for each in shown.classes))
    return f"--paint: var(--{'same' if true == said else 'other'}); --strength: {strength}%"
