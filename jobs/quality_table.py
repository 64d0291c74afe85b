"""A model's quality in the terminal."""

from datetime import datetime

from rich.table import Column, Table

from jobs.agreement_matrix import matrix
from jobs.number_words import percent
from jobs.printing import out, plain
from jobs.quality import Quality, VariantQuality
from jobs.quality_words import (
    calibration_error,
    interval,
    labels,
    name,
    optional_percent,
    over_or_under,
    stands_for,
    summary,
)

MAX_CLASSES = 20
MAX_PERIODS = 60
BLOCKS = "▁▂▃▄▅▆▇█"


def print_quality(quality: Quality) -> None:
    """Print sentences, the versions side by side, their trends, their classes and what is confused with what."""
    for sentence in summary(quality):
        out.print(plain(sentence), soft_wrap=True)
    if not quality.labels:
        return
    out.print(_variants_table(quality))
    _print_trends(quality)
    for each in quality.variants:
        if each.labels:
            out.print(_classes_table(each))
            _print_confusion(each)


def _variants_table(quality: Quality) -> Table:
    table = Table(
        "", *(Column(f"version {each.version}\n{each.variant}", justify="right") for each in quality.variants)
    )
    rows = {
        "Predictions": lambda each: f"{each.predictions:,.0f}",
        "Labels": labels,
        "Stand for": stands_for,
        "Accuracy": lambda each: interval(each.accuracy),
        "Calibration error": calibration_error,
        "Confidence": over_or_under,
    }
    for label, text in rows.items():
        table.add_row(label, *(plain(text(each)) for each in quality.variants))
    return table


def _print_trends(quality: Quality) -> None:
    starts = sorted({period.start for each in quality.variants for period in each.periods})[-MAX_PERIODS:]
    if len(starts) < 2:
        return
    shown = set(starts)
    values = [p.accuracy.value for each in quality.variants for p in each.periods if p.start in shown]
    least, most = min(values), max(values)
    out.print(
        f"Accuracy by {quality.by}, {starts[0]:%Y-%m-%d %H:%M} to {starts[-1]:%Y-%m-%d %H:%M} UTC;"
        f" {BLOCKS[0]} is {percent(least)}, {BLOCKS[-1]} {percent(most)}",
        soft_wrap=True,
    )
    for each in quality.variants:
        if each.periods:
            ends = f"{percent(each.periods[0].accuracy.value)} to {percent(each.periods[-1].accuracy.value)}"
            out.print(plain(f"  {trend(each, starts, least, most)}  {name(each)}: {ends}"), soft_wrap=True)


def trend(of: VariantQuality, starts: list[datetime], least: float, most: float) -> str:
    """A block for each period, a space where nothing is labelled."""
    values = {period.start: period.accuracy.value for period in of.periods}
    return "".join(_block(values[start], least, most) if start in values else " " for start in starts)


def _block(value: float, least: float, most: float) -> str:
    return BLOCKS[-1] if most == least else BLOCKS[round((value - least) / (most - least) * (len(BLOCKS) - 1))]


def _classes_table(of: VariantQuality) -> Table:
    worst = sorted(of.classes, key=lambda each: -1.0 if each.f1 is None else each.f1)[:MAX_CLASSES]
    rows = [each for each in of.classes if each in worst]
    title = f"Classes of {name(of)}"
    if len(rows) < len(of.classes):
        title += f", the {MAX_CLASSES} worst of {len(of.classes):,}"
    heads = [Column(head, justify="right") for head in ("labels", "precision", "recall", "F1")]
    table = Table("class", *heads, title=title)
    for each in rows:
        numbers = (optional_percent(number) or "–" for number in (each.precision, each.recall, each.f1))
        table.add_row(plain(each.name), f"{each.labels:,}", *numbers)
    return table


def _print_confusion(of: VariantQuality) -> None:
    made = matrix((each.true, each.said, round(each.weight)) for each in of.confusion)
    if made is None:
        return
    heads = [Column(plain(each), justify="right") for each in made.classes]
    table = Table(Column("true"), *heads, title=f"Said by {name(of)}")
    for true in made.classes:
        cells = []
        for said in made.classes:
            count = made.count(true, said) or 0
            style = "dim" if not count else "green" if true == said else "bold yellow"
            cells.append(plain(f"{count:,}" if count else "·"))
            cells[-1].stylize(style)
        table.add_row(plain(true), *cells)
    out.print(table)
