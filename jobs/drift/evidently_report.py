"""Evidently: the statistics of each column, and its own page.

Its `.json()` is read, because `.dict()` differs; an empty column would end its report, so only comparable ones are
given to it; `save_html` writes nothing unless its path is a str (evidently 0.7.23).
"""

import json
import os
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jobs.drift.frame import Column, Frame

NUMERIC_METHODS = ("psi", "jensenshannon", "wasserstein", "ks")
CATEGORICAL_METHODS = ("psi", "jensenshannon", "chisquare")
PAGE = "evidently.html"
MAX_PAGE_ROWS = 5000
"""Its page takes seconds and megabytes for more."""


def measure(columns: Sequence[Column], reference: Frame, current: Frame) -> dict[str, dict[str, float]]:
    """Every method's number by column; p-values as they are, uncorrected."""
    evidently = _import()
    metrics = [
        evidently.ValueDrift(column=column.name, method=method)
        for column in columns
        for method in (NUMERIC_METHODS if column.is_numeric else CATEGORICAL_METHODS)
    ]
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for metric in json.loads(_run(metrics, columns, reference, current).json())["metrics"]:
        value = metric["value"]
        found[metric["config"]["column"]][metric["config"]["method"]] = float("nan") if value is None else float(value)
    return dict(found)


def write_page(
    columns: Sequence[Column],
    reference: Frame,
    current: Frame,
    judged: Mapping[str, tuple[str, float]],
    directory: Path,
    seed: int = 0,
) -> Path:
    """Write its report of all columns, each by the method and threshold that judged it."""
    evidently = _import()
    dice = np.random.default_rng(seed)
    preset = evidently.DataDriftPreset(
        columns=[column.name for column in columns],
        per_column_method={name: method for name, (method, _) in judged.items()},
        per_column_threshold={name: threshold for name, (_, threshold) in judged.items()},
    )
    sides = (_some(side, dice) for side in (reference, current))
    path = directory / PAGE
    _run([preset], columns, *sides).save_html(str(path))
    return path


def _some(frame: Frame, dice: np.random.Generator) -> Frame:
    if frame.rows <= MAX_PAGE_ROWS:
        return frame
    return frame.take(np.sort(dice.choice(frame.rows, MAX_PAGE_ROWS, replace=False)))


def _run(metrics: list[Any], columns: Sequence[Column], reference: Frame, current: Frame) -> Any:
    evidently = _import()
    definition = evidently.DataDefinition(
        numerical_columns=[column.name for column in columns if column.is_numeric],
        categorical_columns=[column.name for column in columns if not column.is_numeric],
    )
    now, before = (evidently.Dataset.from_pandas(_pandas(columns, side), definition) for side in (current, reference))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # chi-square of classes that the reference does not have divides by zero
        return evidently.Report(metrics, include_tests=True).run(now, before)


def _pandas(columns: Sequence[Column], frame: Frame) -> Any:
    import pandas

    return pandas.DataFrame({column.name: column.of(frame) for column in columns})


class _Names:
    """Of evidently, imported when needed: 3 s of CPU and 320 MB."""

    DataDefinition: Any
    DataDriftPreset: Any
    Dataset: Any
    Report: Any
    ValueDrift: Any


def _import() -> type[_Names]:
    os.environ["DO_NOT_TRACK"] = "1"  # nobody is told that it ran
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift
        from evidently.presets import DataDriftPreset

    _Names.DataDefinition, _Names.Dataset, _Names.Report = DataDefinition, Dataset, Report
    _Names.DataDriftPreset, _Names.ValueDrift = DataDriftPreset, ValueDrift
    return _Names
