"""The page of a drift report, with samples as the drift job hands them over."""

import base64
import hashlib
import re
from datetime import timedelta

import numpy as np
import pytest

from jobs.drift import plots
from jobs.drift.evidence import CalibrationBin, Evidence, Hour, Samples
from jobs.drift.page import drift_page
from models.drift_report import Finding, Severity
from tests.drift_reports import CREATED, HOSTILE, report
from tests.unit.test_comparison_page import Page

DICE = np.random.default_rng(0)
BRIGHTNESS = Samples("image_brightness", DICE.normal(0.4, 0.05, 500), DICE.normal(0.2, 0.05, 500))
FORMAT = Samples("image_format", np.array(["PNG"] * 9), np.array(["PNG"] * 7 + ["JPEG"] * 2))


def finding(column: str, severity: Severity, words: str = "it is darker", **more: object) -> Finding:
    known = {"method": "psi", "score": 3.1, "warning": 0.1, "critical": 0.25}
    return Finding.model_validate({"column": column, "severity": severity, "words": words, **known, **more})


def hours(accuracy: float | None = None) -> tuple[Hour, ...]:
    return tuple(
        Hour(CREATED + timedelta(hours=hour), 100, hour, 0.9, accuracy, 20 if accuracy else 0) for hour in range(24)
    )


FULL = report(
    "critical",
    "warning",
    findings=(
        finding("image_brightness", "critical", examples=("5ef8dccc",), p_value=1e-9, reference=0.4, current=0.2),
        finding("image_format", "warning", "JPEG images appeared"),
        finding("image_contrast", "ok", "contrast is as it was"),
        finding(
            "label",
            "warning",
            "accuracy by feedback is 89 %",
            method="accuracy",
            score=0.89,
            reference=0.975,
            effects={"low": 0.85, "high": 0.92},
        ),
    ),
)
CALIBRATION = (CalibrationBin(0.95, 0.8, 50),)
EVIDENCE = Evidence((BRIGHTNESS, FORMAT), {"3": (0.1, 0.24), "8": (0.1, 0.08)}, hours(0.9), CALIBRATION, CALIBRATION)


def test_it_is_one_file_without_scripts_or_addresses() -> None:
    html = drift_page(FULL, EVIDENCE)
    found = Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert not {"src", "href", "srcset"} & {attribute for attribute, _ in found.attributes}
    assert not re.search(r"url\(|@import|https?://", html)
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'\"" in html
    assert "prefers-color-scheme: dark" in html


@pytest.mark.parametrize(
    "words",
    [
        "✓ OK",
        "✗ Critical",
        "! Warning",
        "Is the data whole?",
        "Has it changed?",
        "Does that cost accuracy?",
        "image brightness",
        "warning at 0.1, critical at 0.25",
        "p < 0.001",
        "5ef8dccc",
        "10 % → 24 %",
        "0 % → 22.2 %",
        "Accuracy, by feedback",
        "against 360 rows of the validation set",
        "Everything that was looked at (4)",
    ],
)
def test_it_says(words: str) -> None:
    assert words in Page(drift_page(FULL, EVIDENCE)).text


def test_the_worst_comes_first() -> None:
    text = Page(drift_page(FULL, EVIDENCE)).text
    assert text.index("What changed") < text.index("It is darker") < text.index("JPEG images appeared")


def test_what_comes_from_outside_is_text() -> None:
    made = report("critical", words=HOSTILE, findings=(finding(HOSTILE, "critical", HOSTILE, examples=(HOSTILE,)),))
    samples = Samples(HOSTILE, np.array([HOSTILE]), np.array(["", HOSTILE]))
    found = Page(drift_page(made, Evidence((samples,), {HOSTILE: (0.5, 0.5), "": (0.5, 0.5)})))
    assert not {"script", "iframe"} & set(found.tags)
    assert found.text.count("<script>alert(1)</script>") >= 7
    assert not [name for name, _ in found.attributes if name.startswith("on")]


@pytest.mark.parametrize(
    "evidence",
    [
        pytest.param(Evidence(), id="nothing"),
        pytest.param(Evidence((Samples("a", np.array([]), np.array([1.0])),)), id="no reference"),
        pytest.param(Evidence((Samples("a", np.array([1.0]), np.array([1.0])),), {}, hours()[:1]), id="one value"),
        pytest.param(Evidence((Samples("a", np.array([np.nan, np.inf]), np.arange(99.0)),)), id="no finite value"),
        pytest.param(Evidence((Samples("a", np.arange(99.0), np.full(99, 7.0)),)), id="constant"),
        pytest.param(Evidence((Samples("a", np.full(9, 0.1), np.array([0.1] * 9 + [1e30])),)), id="far away"),
        pytest.param(Evidence((Samples("a", np.arange(999) // 998 * 1e-9, np.arange(99) * 1e-12),)), id="tiny"),
    ],
)
def test_there_may_be_little_to_show(evidence: Evidence) -> None:
    Page(drift_page(report("unknown", "unknown", "unknown", words="not enough data: 3 rows"), evidence))


EVIDENTLY = "<html><script>go('1 & 2')\r\n</script><script type='x'>on()</script><p>don't</p></html>"


def test_evidentlys_report_is_in_a_frame_that_runs_only_its_own_scripts() -> None:
    html = drift_page(FULL, EVIDENCE, EVIDENTLY)
    found = Page(html)
    attributes = dict(found.attributes)
    assert attributes["sandbox"] == "allow-scripts"
    assert attributes["srcdoc"] == EVIDENTLY.replace("\r\n", "\n")
    policy = attributes["content"] if "script-src" in attributes["content"] else html
    for body in ("go('1 & 2')\n", "on()"):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'" in policy
    assert "'unsafe-inline'; script-src" in policy.replace("&#39;", "'")
    assert "script" not in found.tags


def test_a_histogram_keeps_far_values_at_its_ends() -> None:
    plot = plots.column_plot(Samples("a", DICE.normal(0, 1, 999), np.append(DICE.normal(0, 1, 999), 1e6)))
    assert isinstance(plot, plots.Histogram)
    assert plot.has_outliers
    assert all(abs(float(tick.text)) < 10 for tick in plot.ticks)


def test_categories_that_are_too_many_are_summed() -> None:
    shares = {str(n): 1 / 100 for n in range(100)}
    made = plots.pairs(shares, shares)
    assert len(made) == plots.MAX_BARS
    assert made[-1].label == "77 others"
    assert made[-1].current == pytest.approx(0.77)


def test_a_year_of_hours_is_a_hundred_dots() -> None:
    year = [Hour(CREATED + timedelta(hours=n), 10, 0, 0.9) for n in range(8760)]
    line = plots.line(year, "predictions")
    assert line is not None
    assert len(line.dots) <= plots.MAX_MOMENTS
    assert line.high == 10 * 92
    assert plots.line(year, "accuracy") is None
