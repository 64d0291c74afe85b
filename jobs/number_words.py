"""Numbers as people read them."""

from collections.abc import Sequence


def percent(share: float) -> str:
    """`5 %`, `97.5 %`; a share that is not all or nothing is never rounded to it."""
    value = 100 * share
    if 0 < value < 0.01:
        return "< 0.01 %"
    if 99.95 <= value < 100:
        return "> 99.9 %"
    text = f"{value:.2g}" if 0 < value < 1 else f"{value:.1f}".removesuffix(".0")
    return f"{text} %"


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    text = f"{100 * abs(share):.2f}".rstrip("0").rstrip(".")
    if text == "0":
        return text
    return f"{'−' if share < 0 else '+'}{text}"


def milliseconds(value: float | None) -> str:
    """`4.1 ms`, `1.25 s`; empty where there is none."""
    if value is None:
        return ""
    return f"{value / 1000:.3g} s" if value >= 1000 else f"{value:.3g} ms"


def enumerated(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
