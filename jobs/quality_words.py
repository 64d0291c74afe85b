"""What the terminal and the page say of a model's quality, in the same words."""

from jobs.estimates import Share
from jobs.number_words import enumerated, percent
from jobs.quality import Period, Quality, VariantQuality

FEW_LABELS = 100
"""Fewer leave an accuracy open by several points."""


def name(of: VariantQuality) -> str:
    """`version 2, challenger`."""
    return f"version {of.version}, {of.variant}"


def interval(share: Share | None) -> str:
    """`96.5 % (95.1 % to 97.5 %)`."""
    return "" if share is None else f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"


def optional_percent(share: float | None) -> str:
    """Empty where there is none."""
    return "" if share is None else percent(share)


def labels(of: VariantQuality) -> str:
    """How many, and how many of them were drawn."""
    return f"{of.labels:,}" + (f", {of.sampled:,} of them drawn" if of.sampled else "")


def stands_for(of: VariantQuality) -> str:
    """What share of the predictions the labels stand for."""
    return percent(min(1.0, of.weight / of.predictions)) if of.predictions else ""


def calibration_error(of: VariantQuality) -> str:
    """The error beside what so many labels show by chance."""
    if of.calibration is None:
        return ""
    return f"{percent(of.calibration.ece)} (by chance {percent(of.calibration.by_chance)})"


def over_or_under(of: VariantQuality) -> str:
    """Whether confidence promises more than accuracy keeps."""
    made = of.calibration
    if made is None or of.accuracy is None:
        return ""
    if made.confidence > of.accuracy.high:
        return f"overconfident: says {percent(made.confidence)}"
    if made.confidence < of.accuracy.low:
        return f"underconfident: says {percent(made.confidence)}"
    return f"says {percent(made.confidence)}"


def summary(quality: Quality) -> list[str]:
    """Sentences for who reads no further."""
    if not any(each.predictions or each.labels for each in quality.variants):
        return [f"{quality.model} has answered nothing with a class since {moment(quality)}."]
    told = [_sentence(each) for each in quality.variants if each.labels]
    if not told:
        return [
            f"No answer of {quality.model} since {moment(quality)} has a label yet. `tiltyard label-sample` draws some."
        ]
    silent = [name(each) for each in quality.variants if not each.labels]
    return told + ([f"Nothing is labelled of {enumerated(silent)}."] if silent else [])


def _sentence(of: VariantQuality) -> str:
    text = f"V{name(of)[1:]}, is right in {interval(of.accuracy)} of the answers, by {of.labels:,} labels"
    if of.sampled:
        text += f" that stand for {stands_for(of)} of its predictions"
    if of.labels < FEW_LABELS:
        text += "; that is few"
    return f"{text}."


def moment(quality: Quality) -> str:
    """Where the window begins."""
    return f"{quality.since:%Y-%m-%d %H:%M} UTC"


def period_name(period: Period, quality: Quality) -> str:
    """When a period begins, as precisely as it needs."""
    return f"{period.start:%Y-%m-%d %H:%M}" if quality.by == "hour" else f"{period.start:%Y-%m-%d}"
