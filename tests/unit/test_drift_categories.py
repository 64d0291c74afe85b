"""Columns of names and texts: of many values, of which many come once."""

import time

import numpy as np
import pyarrow as pa
import pytest

from jobs.drift.change import our_own
from jobs.drift.distances import cut
from jobs.drift.examination import Window, examine
from jobs.drift.frame import MAX_CATEGORIES, POOLED, Frame, chance_of_unseen, comparable
from tests.drift_frames import outputs


def with_texts(rows: int, texts: list[str], dice: np.random.Generator) -> Frame:
    return Frame(outputs(rows, dice).table.append_column("input_city", pa.array(texts, pa.string())))


def zipf(rows: int, dice: np.random.Generator) -> list[str]:
    """Few frequent values and a long tail, of which one in six rows of a reference of 2000 is the only one."""
    return [f"city-{each}" for each in dice.zipf(1.5, rows)]


@pytest.mark.timeout(60)
def test_a_column_of_texts_is_neither_compared_nor_missed() -> None:
    dice = np.random.default_rng(0)
    reference = with_texts(3000, [f"{each:08x}" for each in range(3000)], dice)
    window = with_texts(3000, [f"{each:08x}" for each in range(9000, 12000)], dice)
    began = time.monotonic()
    found = examine(reference, Window(window))
    assert [tier.severity for tier in found.tiers] == ["ok", "ok", "ok"], found.words
    assert "input_city" not in {column.name for column in comparable(reference, window)}
    assert time.monotonic() - began < 30


def test_values_that_were_to_be_expected_are_not_unseen() -> None:
    dice = np.random.default_rng(1)
    reference = with_texts(2000, zipf(2000, dice), dice)
    chance = chance_of_unseen(reference.texts("input_city"))
    assert 0.03 < chance < 0.25
    window = with_texts(2000, zipf(2000, dice), dice)
    validity = examine(reference, Window(window)).tiers[0]
    assert validity.severity == "ok", validity.words
    strange = [f"town-{row}" if row % 2 else each for row, each in enumerate(zipf(2000, dice))]
    validity = examine(reference, Window(with_texts(2000, strange, dice))).tiers[0]
    assert validity.severity == "critical"
    assert "which the reference has not" in validity.words


def test_rare_categories_count_as_one() -> None:
    dice = np.random.default_rng(2)
    reference, window = (with_texts(2000, zipf(2000, dice), dice) for _ in range(2))
    (column,) = [each for each in comparable(reference, window) if each.name == "input_city"]
    assert len(cut(column).reference) == MAX_CATEGORIES
    assert {*column.reference, *column.current} <= {*column.of(reference), *column.of(window)}
    assert POOLED in column.current
    assert our_own([column])["input_city"]["jensenshannon"] < 0.2
    few = with_texts(2000, ["a", "b"] * 1000, dice)
    (column,) = [each for each in comparable(few, few) if each.name == "input_city"]
    assert column.kept is None


def test_the_chance_of_an_unseen_value_is_that_of_singletons() -> None:
    assert chance_of_unseen(np.array(["a", "a", "b", "c", None], dtype=object)) == 0.5
    assert chance_of_unseen(np.array([None], dtype=object)) == 0
