"""A table of traffic that holds images and tensors, whose columns are not the same."""

import numpy as np
import pyarrow as pa

from jobs.drift.examination import Window, examine
from jobs.drift.frame import Frame, comparable
from jobs.drift.two_sample import matrices
from models.drift_report import Tier
from tests.drift_frames import outputs

TENSOR = "input_image_mean"


def with_tensors(frame: Frame, images: np.ndarray, tensors: np.ndarray) -> Frame:
    """The frame with both kinds of columns, each known of some of the rows."""
    brightness = frame.numbers("image_brightness")
    table = frame.table.set_column(
        frame.table.column_names.index("image_brightness"), "image_brightness", pa.array(brightness, mask=~images)
    )
    return Frame(table.append_column(TENSOR, pa.array(brightness * 2, mask=~tensors)))


def reference_of_both(rows: int, dice: np.random.Generator) -> Frame:
    every = np.ones(rows, dtype=bool)
    frame = with_tensors(outputs(rows, dice), every, every)
    return Frame(frame.table.drop_columns(["time", "key_id"]))


def tier(reference: Frame, window: Frame, name: str) -> Tier:
    return next(each for each in examine(reference, Window(window)).tiers if each.name == name)


def test_one_request_with_a_tensor_is_no_hole_in_the_images() -> None:
    dice = np.random.default_rng(0)
    reference = reference_of_both(1000, dice)
    is_tensor = np.arange(2000) == 7
    window = with_tensors(outputs(2000, dice), ~is_tensor, is_tensor)
    found = examine(reference, Window(window))
    assert [each.severity for each in found.tiers] == ["ok", "ok", "ok"], found.words
    assert found.change is not None
    assert found.change.independent > 500
    assert [each.name for each in comparable(reference, window)] == ["image_brightness", "label", "confidence"]


def test_what_is_missing_is_counted_among_rows_of_its_kind() -> None:
    dice = np.random.default_rng(1)
    reference = reference_of_both(1000, dice)
    is_tensor = np.arange(2000) % 2 == 0
    window = with_tensors(outputs(2000, dice), ~is_tensor, is_tensor)
    assert tier(reference, window, "validity").severity == "ok"
    means = window.numbers(TENSOR)
    means[::4] = np.nan  # half of the tensors
    table = window.table.set_column(window.table.column_names.index(TENSOR), TENSOR, pa.array(means, mask=~is_tensor))
    found = tier(reference, Frame(table), "validity")
    assert found.severity == "critical"
    assert "50 % of the mean of input image is missing" in found.words


def test_nothing_known_of_any_input_is_a_hole() -> None:
    dice = np.random.default_rng(2)
    none = np.zeros(1000, dtype=bool)
    found = tier(reference_of_both(1000, dice), with_tensors(outputs(1000, dice), none, none), "validity")
    assert found.severity == "critical"


def test_a_mixture_of_kinds_is_not_told_apart_by_what_is_filled_in() -> None:
    dice = np.random.default_rng(3)
    reference = reference_of_both(1500, dice)
    is_tensor = np.arange(1500) % 3 == 0
    window = with_tensors(outputs(1500, dice), ~is_tensor, is_tensor)
    found = matrices(reference, window)
    assert found is not None
    assert found[0].shape[1] == 1  # the confidence
    assert tier(reference, window, "drift").severity == "ok"
