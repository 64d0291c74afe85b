import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.labelled import join
from jobs.quality import Quality, quality_of
from jobs.quality_charts import reliability, timeline
from jobs.quality_page import MAX_ROWS, quality_page
from jobs.quality_table import trend
from models.errors import InvalidRequest
from models.traffic_tables import TrafficTables
from tests.comparisons import HOSTILE
from tests.records import NOON, feedback, predictions
from tests.unit.test_comparison_page import Page

LABELS = ("7", "8", "9", HOSTILE, "a label that is too long for the head of a column")


def made(days: tuple[int, ...] = (0, 1, 3), labels: tuple[str, ...] = LABELS) -> Quality:
    """A champion right in 4 of 5 and a shadow always right on some days; a challenger without any label."""
    rows, told = [], []
    for day in days:
        for version, variant in ((1, "champion"), (2, "shadow")):
            truth = [labels[number % len(labels)] for number in range(20)]
            said = [labels[0] if number % 5 == 4 and version == 1 else truth[number] for number in range(20)]
            time, writer = NOON + timedelta(days=day), f"d{day}"
            columns: dict[str, Any] = {
                "version": version,
                "variant": variant,
                "label": said,
                "confidence": 0.7 + 0.05 * version,
            }
            rows.append(predictions(20, time=time, writer=writer, **columns))
            told.append(labelled_as(feedback(20, time=time, writer=writer), truth))
    found = quality_of(join(pa.concat_tables(rows), pa.concat_tables(told)), {(3, "challenger"): 9.0})
    return Quality("digits", NOON, NOON + timedelta(days=9), "day", found)


def labelled_as(rows: pa.Table, truth: list[str]) -> pa.Table:
    rows = rows.set_column(rows.column_names.index("label"), "label", pa.array(truth))
    return rows.set_column(rows.column_names.index("weight"), "weight", pa.nulls(len(rows), pa.float64()))


def test_it_is_a_whole_page_that_needs_nothing_else() -> None:
    html = quality_page(made())
    found = Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert not {"src", "href", "srcset"} & {attribute for attribute, _ in found.attributes}
    assert not re.search(r"url\(|@import|https?://", html)
    assert "default-src 'none'" in html
    assert "prefers-color-scheme: dark" in html


def test_labels_are_text() -> None:
    found = Page(quality_page(made()))
    assert found.text.count(HOSTILE) == 2
    assert "a label tha…" in found.text
    for name, value in found.attributes:
        assert not name.startswith("on")
        assert name == "title" or "<script>" not in value


def test_it_says_what_matters() -> None:
    text = Page(quality_page(made())).text.replace("\u00a0", " ")
    for words in (
        "Version 1, champion, is right in 80 % (68.2 % to 88.2 %) of the answers, by 60 labels; that is few.",
        "Version 2, shadow, is right in 100 %",
        "Nothing is labelled of version 3, challenger.",
        "underconfident: says 80 %",
        "Accuracy by day",
    ):
        assert words in text


def test_without_labels_it_is_still_a_page() -> None:
    empty = replace(made(), variants=())
    text = Page(quality_page(empty)).text
    assert "has answered nothing with a class" in text
    assert "Side by side" not in text


def test_a_line_is_broken_where_nothing_is_labelled() -> None:
    drawn = timeline(made((0, 1, 3, 4, 5)))
    assert drawn is not None
    champion = drawn.lines[0]
    assert [len(line.split(",")) // 2 for line, _ in champion.runs] == [2, 3]
    assert [len(band.split(",")) // 2 for _, band in champion.runs] == [4, 6]
    assert len(champion.points) == 5
    assert all(0 <= at <= 100 for point in champion.points for at in (point.x, point.y, point.low, point.high))
    assert champion.points[0].high < champion.points[0].y < champion.points[0].low


def test_one_period_is_no_line() -> None:
    assert timeline(made((0,))) is None


def test_a_bin_is_where_its_confidence_and_accuracy_are() -> None:
    of = made().variants[0]
    assert of.calibration is not None
    (only,) = reliability(of.calibration)
    assert (only.point.x, only.point.y) == pytest.approx((75, 20))
    assert (only.left, only.width, only.height) == pytest.approx((70, 10, 100))


def test_old_periods_are_counted() -> None:
    found = made(tuple(range(MAX_ROWS + 2)), ("7", "8"))
    assert "2 older ones are not shown" in Page(quality_page(found)).text


def test_the_trend_has_a_gap_where_nothing_is_labelled() -> None:
    of = made().variants[0]
    days = [datetime(2026, 11, 1 + day, tzinfo=UTC) for day in range(4)]
    assert trend(of, days, 0.0, 1.0) == "▇▇ ▇"


def test_the_command_writes_it(tmp_path: Path) -> None:
    tables = TrafficTables(str(tmp_path / "traffic"))
    tables.predictions("digits").append(predictions(3, label=HOSTILE))
    tables.feedback().append(feedback(3, label=HOSTILE))
    path = tmp_path / "page.html"
    command = ["quality", "digits", "--root", tables.root, "--since", NOON.isoformat(), "--html"]
    done = CliRunner().invoke(app, [*command, str(path)])
    assert done.exception is None, done.exception
    assert "\x1b" not in done.stdout
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert type(CliRunner().invoke(app, [*command, "/nowhere/page.html"]).exception) is InvalidRequest
