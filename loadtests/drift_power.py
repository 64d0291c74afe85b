"""How often the drift job is wrong, and how small a shift it sees, on windows of digits. `make drift-power`.

Undrifted windows, row by row and in bursts, must not be flagged; spoilt ones must, in the right tier. Beside it, what
Evidently's DataDriftPreset says of the same windows with its defaults. Writes its tables into docs/drift.md.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jobs.drift.distances import cut, effects
from jobs.drift.examination import Examination, Window, examine
from jobs.drift.frame import Frame, comparable
from loadtests.drift_names import CLEAN, SHIFTS, read_pool
from loadtests.drift_windows import Pool
from models.drift_report import Severity, TierName

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "build" / "drift-power"
PAGE = ROOT / "docs" / "drift.md"
BEGIN, END = "<!-- written by make drift-power -->\n", "<!-- end -->\n"
REFERENCE_ROWS = 2000
NULL_ROWS = (1000, 2000, 5000)
BURSTS = (1, 5, 20, 100)
POWER_ROWS = (500, 1000, 2000, 5000)
MOST_CRITICAL, MOST_WARNINGS = 0.01, 0.05
TOO_MANY = "**Too many false alarms**"
PRESET_SCORE, PRESET_SHARE = 0.1, 0.5
"""Evidently's defaults for references of more than 1,000 rows: a column drifts from this score on, the data where half
of the columns do (evidently 0.7.23)."""

Show = Callable[[str], None]


@dataclass(slots=True)
class Outcomes:
    """What was said of windows of one kind."""

    severities: list[Severity] = field(default_factory=list)
    tiers: list[dict[TierName, Severity]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    preset_columns: list[int] = field(default_factory=list)
    preset_says: list[bool] = field(default_factory=list)

    def add(self, found: Examination, reference: Frame, window: Frame) -> None:
        self.severities.append(found.severity)
        self.tiers.append({tier.name: tier.severity for tier in found.tiers})
        self.words.append(" ".join(tier.words for tier in found.tiers))
        drifted, columns = preset(reference, window)
        self.preset_columns.append(drifted)
        self.preset_says.append(drifted >= PRESET_SHARE * columns)

    def share(self, *severities: Severity) -> float:
        return sum(each in severities for each in self.severities) / len(self.severities)

    def tier(self, name: TierName, *severities: Severity) -> float:
        return sum(each[name] in severities for each in self.tiers) / len(self.tiers)


def preset(reference: Frame, window: Frame) -> tuple[int, int]:
    """Columns that Evidently's preset would call drifted, of all: normed Wasserstein for numbers, else Jensen-Shannon.

    By our own statistics, which equal its (tests/unit/test_drift_statistics.py).
    """
    columns = comparable(reference, window)
    scores = [effects(each, cut(each)) for each in columns]
    kinds = ["wasserstein" if _takes_many(each.reference) else "jensenshannon" for each in columns]
    return sum(score[kind] >= PRESET_SCORE for score, kind in zip(scores, kinds, strict=True)), len(columns)


def _takes_many(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bool:
    return bool(np.issubdtype(values.dtype, np.number)) and len(np.unique(values)) > 5


def watch(clean: Pool, pool: Pool, rows: int, burst: int, windows: int, seed: Sequence[int]) -> Outcomes:
    """Examine so many windows, each against a reference of its own."""
    outcomes = Outcomes()
    for number in range(windows):
        dice = np.random.default_rng([*seed, rows, burst, number])
        reference, window = clean.reference(REFERENCE_ROWS, dice), pool.window(rows, burst, dice)
        outcomes.add(examine(reference, Window(window)), reference, window)
    return outcomes


def false_alarms(clean: Pool, windows: int, show: Show) -> Iterator[str]:
    """Rows of Markdown, and TOO_MANY where there are."""
    yield "| bursts of | rows | windows | warning | critical | Evidently's preset: any column | the data |\n"
    yield "|---|---|---|---|---|---|---|\n"
    each = max(1, round(windows / len(NULL_ROWS)))
    totals = []
    for burst in BURSTS:
        for rows in NULL_ROWS:
            show(f"undrifted: {each} windows of {rows} rows in bursts of {burst}")
            found = watch(clean, clean, rows, burst, each, (5,))
            totals.append(found)
            any_column = np.mean(np.array(found.preset_columns) > 0)
            cells = (found.share("warning"), found.share("critical"), any_column, np.mean(found.preset_says))
            yield f"| {burst} | {rows:,} | {each} | {' | '.join(map(percent, cells))} |\n"
    warned, critical = (np.mean([each.share(*level) for each in totals]) for level in (("warning",), ("critical",)))
    yield f"\nIn all {len(totals) * each} windows: warning {percent(warned)}, critical {percent(critical)}.\n"
    if warned > MOST_WARNINGS or critical > MOST_CRITICAL:
        yield f"\n{TOO_MANY}: at most {percent(MOST_WARNINGS)} and {percent(MOST_CRITICAL)} are accepted.\n"


def power(clean: Pool, windows: int, burst: int, show: Show) -> Iterator[str]:
    """Rows of Markdown: share of windows that are flagged, by shift and n; ours / Evidently's preset."""
    yield f"| shift, bursts of {burst} | {' | '.join(f'{rows:,}' for rows in POWER_ROWS)} | tiers at"
    yield f" {POWER_ROWS[-1]:,}: validity / drift / harm | accuracy |\n|---|{'---|' * len(POWER_ROWS)}---|---|\n"
    for name in SHIFTS:
        pool = Pool.of(read_pool(CACHE, name))
        cells = []
        found = Outcomes()
        for rows in POWER_ROWS:
            show(f"{name}: {windows} windows of {rows} rows in bursts of {burst}")
            found = watch(clean, pool, rows, burst, windows, (2,))
            flagged = found.share("warning", "critical")
            cells.append(
                f"{percent(flagged)} ({percent(found.share('critical'))}) / {percent(np.mean(found.preset_says))}"
            )
        tiers = " / ".join(most([each[tier] for each in found.tiers]) for tier in ("validity", "drift", "harm"))
        rows_right = pool.rows["label"].to_numpy(zero_copy_only=False) == pool.rows["true_label"].to_numpy(
            zero_copy_only=False
        )
        yield f"| {name} | {' | '.join(cells)} | {tiers} | {percent(np.mean(rows_right))} |\n"


def said(clean: Pool) -> Iterator[str]:
    """One window of each shift in words."""
    yield "| shift | what the report says of one window of 2,000 |\n|---|---|\n"
    for name in SHIFTS:
        found = watch(clean, Pool.of(read_pool(CACHE, name)), 2000, 1, 1, (3,))
        yield f"| {name} | {found.words[0].replace('|', '/')} |\n"


def most(severities: Sequence[Severity]) -> str:
    """What was said most often."""
    return max(set(severities), key=severities.count)


def percent(share: Any) -> str:
    return f"{100 * float(share):.3g} %"


def replace_between(text: str, new: str) -> str:
    """The page with its generated part written anew."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + new + "\n" + END + rest.split(END)[1]


def tables(null_windows: int, power_windows: int, show: Show) -> str:
    """All of it, as Markdown."""
    clean = Pool.of(read_pool(CACHE, CLEAN))
    few = watch(clean, clean, 300, 1, 5, (4,))
    if set(few.severities) != {"unknown"}:
        raise SystemExit("windows of 300 rows were judged")
    return "".join(
        (
            f"Undrifted, against references of {REFERENCE_ROWS:,} rows:\n\n",
            *false_alarms(clean, null_windows, show),
            f"\nOf 300 rows it says: *{few.words[0].split('. ')[0].rstrip('.')}.*\n",
            f"\nShifted, {power_windows} windows each: flagged (critical) / the preset says that the data drift.\n\n",
            *power(clean, power_windows, 1, show),
            "\n",
            *power(clean, power_windows, 20, show),
            "\n",
            *said(clean),
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--null-windows", type=int, default=51, help="undrifted windows of each kind of burst")
    parser.add_argument("--power-windows", type=int, default=6, help="of each shift and number of rows")
    parser.add_argument("--pool-rows", type=int, default=6000)
    parser.add_argument("--write", action="store_true", help="write docs/drift.md")
    arguments = parser.parse_args()
    began = time.monotonic()

    def show(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {text}", file=sys.stderr, flush=True)

    # The model is run where onnxruntime is; everything else here, where the drift job runs.
    make_pools(arguments.pool_rows)
    found = tables(arguments.null_windows, arguments.power_windows, show)
    if arguments.write:
        PAGE.write_text(replace_between(PAGE.read_text(), found))
    print(found)
    if TOO_MANY in found:
        raise SystemExit(1)


def make_pools(rows: int) -> None:
    python = ROOT / ".venv" / "bin" / "python"
    command = [str(python), "-m", "loadtests.drift_pools", "--cache", str(CACHE), "--rows", str(rows)]
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
