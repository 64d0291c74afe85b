"""What a person is told of a change."""

import re
from collections.abc import Mapping

from jobs.number_words import percent
from models.traffic import INPUT

Pair = tuple[str, str]

# (more, less), as the end of a sentence that begins with the mean.
_NUMBERS: Mapping[str, tuple[Pair, str]] = {
    "image_width": (("images are wider", "images are narrower"), "mean width in pixels"),
    "image_height": (("images are taller", "images are less tall"), "mean height in pixels"),
    "image_aspect": (("images are wider for their height", "images are narrower for their height"), "width / height"),
    "image_bytes": (("files are larger", "files are smaller"), "mean bytes"),
    "image_brightness": (("images are brighter", "images are darker"), "mean brightness"),
    "image_contrast": (("images have more contrast", "images have less contrast"), "mean contrast"),
    "image_sharpness": (("images are noisier or sharper", "images are blurrier"), "mean sharpness"),
    "image_saturation": (("images are more colourful", "images are less colourful"), "mean saturation"),
    "image_dark_share": (("more of the pixels are dark", "fewer of the pixels are dark"), "mean share"),
    "image_clipped_share": (
        ("more of the pixels are fully black or white", "fewer of the pixels are fully black or white"),
        "mean share",
    ),
    "image_red": (("images have more red", "images have less red"), "mean red"),
    "image_green": (("images have more green", "images have less green"), "mean green"),
    "image_blue": (("images have more blue", "images have less blue"), "mean blue"),
    "confidence": (("the model is surer of itself", "the model is less sure of itself"), "mean confidence"),
    "margin": (
        ("the likeliest class is further ahead", "the likeliest class is less far ahead"),
        "mean margin to the second",
    ),
    "entropy": (("the probabilities are more spread", "the probabilities are less spread"), "mean entropy"),
}
_SUMMARIES = {
    "mean": "the mean of {}",
    "sd": "the spread of {}",
    "q05": "the low end of {}",
    "q50": "the median of {}",
    "q95": "the high end of {}",
    "zero_share": "the share of zeros in {}",
    "nan_share": "the share of NaN in {}",
}
LEAST_SHIFT = 0.1
"""Of the mean, in standard deviations; below it the shape has changed and not the place."""


def noun(column: str) -> str:
    """A column's name for a person."""
    if column.startswith(INPUT):
        name = column.removeprefix(INPUT)
        match = re.fullmatch(rf"(.+)_({'|'.join(_SUMMARIES)})", name)
        return _SUMMARIES[match[2]].format(f"input {match[1]}") if match else f"input {name}"
    if column == "label":
        return "the predicted class"
    return column.removeprefix("image_").replace("_", " ")


def numbers_changed(column: str, means: tuple[float, float], spreads: tuple[float, float]) -> str:
    """Reference and current means and standard deviations in words."""
    before, now = means
    is_shift = abs(now - before) >= LEAST_SHIFT * spreads[0] and number(now) != number(before)
    if not is_shift:
        what = "varies more" if spreads[1] > 1.1 * spreads[0] else "varies less"
        if 0.9 * spreads[0] <= spreads[1] <= 1.1 * spreads[0]:
            what = "is distributed differently"
        return f"{noun(column)} {what}: standard deviation {number(spreads[1])}, was {number(spreads[0])}"
    is_more = now > before
    if column in _NUMBERS:
        (more, less), mean = _NUMBERS[column]
        return f"{more if is_more else less}: {mean} {number(now)}, was {number(before)}"
    return f"{noun(column)} is {'higher' if is_more else 'lower'}: mean {number(now)}, was {number(before)}"


def categories_changed(column: str, before: Mapping[str, float], now: Mapping[str, float]) -> str:
    """Shares in words: those that changed most."""
    changed = sorted(before.keys() | now.keys(), key=lambda each: -abs(now.get(each, 0) - before.get(each, 0)))
    parts = [f"{each!r} {percent(now.get(each, 0))}, was {percent(before.get(each, 0))}" for each in changed[:3]]
    what = "classes come in another mix" if column == "label" else f"{noun(column)} has another mix"
    return f"{what}: {'; '.join(parts)}"


def unchanged(column: str) -> str:
    """A column within its thresholds."""
    return f"{noun(column)} is as in the reference"


def number(value: float) -> str:
    """Two or three digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}" if abs(value) < 0.1 else f"{value:.3g}"


def capital(sentence: str) -> str:
    """With a capital first letter."""
    return sentence[:1].upper() + sentence[1:]
