"""A drift report in words: states, titles, and names that people read."""

from jobs.guard_words import State
from models.drift_report import DriftReport, Finding, Severity, TierName
from models.traffic import IMAGE, INPUT

STATES: dict[Severity, State] = {
    "ok": State("green", "✓", "OK"),
    "warning": State("yellow", "!", "Warning"),
    "critical": State("red", "✗", "Critical"),
    "unknown": State("grey", "?", "Not known"),
}

TIERS: dict[TierName, tuple[str, str]] = {
    "validity": ("Validity", "Is the data whole?"),
    "drift": ("Drift", "Has it changed?"),
    "harm": ("Harm", "Does that cost accuracy?"),
}

METHODS = {
    "psi": "PSI",
    "jensenshannon": "Jensen-Shannon distance",
    "wasserstein": "Wasserstein distance, in standard deviations",
    "ks": "Kolmogorov-Smirnov",
    "chisquare": "chi-square",
    "auc": "AUC of a classifier that tells them apart",
    "share": "share",
    "accuracy": "accuracy",
    "ratio": "ratio to the reference",
}

COLUMNS = {
    "label": "predicted class",
    "confidence": "confidence",
    "margin": "margin to the next class",
    "entropy": "entropy of the probabilities",
    "embedding": "what the model sees (embedding)",
    "all columns": "all columns together",
}


def state(severity: Severity) -> State:
    """A severity as a colour, a mark and a word."""
    return STATES[severity]


def tier_title(name: TierName) -> str:
    """How a tier is called."""
    return TIERS[name][0]


def tier_question(name: TierName) -> str:
    """What a tier asks."""
    return TIERS[name][1]


def method(name: str) -> str:
    """How a method is called; one that is not known here by its name."""
    return METHODS.get(name, name.replace("_", " "))


def column(name: str) -> str:
    """How a column is called: `image brightness`, `input age`."""
    if name.startswith((IMAGE, INPUT)):
        return name.replace("_", " ")
    return COLUMNS.get(name, name)


def number(value: float | None) -> str:
    """Three digits."""
    if value is None:
        return "–"
    if abs(value) >= 1000 and abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def p_value(value: float | None) -> str:
    """`p = 0.02`, `p < 0.001`."""
    if value is None:
        return "–"
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def title(report: DriftReport) -> str:
    """The title of the page."""
    return f"{report.model}, version {report.version}: drift"


def limit(finding: Finding) -> str:
    """What a score is held against: `0.1 / 0.2`."""
    if finding.warning is None and finding.critical is None:
        return "–"
    return f"{number(finding.warning)} / {number(finding.critical)}"
