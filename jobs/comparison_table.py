"""A comparison in the terminal."""

from rich.table import Column, Table
from rich.text import Text

from jobs.agreement_matrix import Matrix, agreement_matrix
from jobs.comparison import Comparison, VariantReport
from jobs.comparison_words import headlines
from jobs.guard_words import Colour, State, check_state, estimate, guard_words, needed_words
from jobs.printing import out, plain
from jobs.side_by_side import side_by_side

_STYLES: dict[Colour, str] = {"green": "bold green", "yellow": "bold yellow", "red": "bold red", "grey": "bold"}


def print_comparison(comparison: Comparison) -> None:
    """Print the headlines, the variants side by side, and what the guards see of each."""
    for shown, sentence in headlines(comparison):
        out.print(_state(shown), plain(sentence), soft_wrap=True)
    if comparison.variants:
        out.print(_variants_table(comparison))
    for report in comparison.contenders:
        _print_contender(report)


def _variants_table(comparison: Comparison) -> Table:
    heads = [f"version {each.version}\n{each.variant}" for each in comparison.variants]
    table = Table("", *(Column(head, justify="right") for head in heads))
    for row in side_by_side(comparison):
        table.add_row(row.label, *map(plain, row.cells))
    return table


def _print_contender(report: VariantReport) -> None:
    if report.verdict is not None and report.verdict.checks:
        out.print(_guards_table(report))
        if report.verdict.because:
            out.print(plain(f"The referee, on version {report.version}: {report.verdict.because}"), soft_wrap=True)
    matrix = agreement_matrix(report.statistics)
    if matrix is not None:
        out.print(_matrix_table(report, matrix))
    if report.disagreements:
        out.print(_examples_table(report))


def _guards_table(report: VariantReport) -> Table:
    table = Table("guard", "state", "loss against the champion", "missing", title=f"Guards of version {report.version}")
    for check in report.verdict.checks if report.verdict else ():
        missing = needed_words(check) if check.decision == "hold" else ""
        table.add_row(
            plain(guard_words(check.name).title), _state(check_state(check)), plain(estimate(check)), plain(missing)
        )
    return table


def _matrix_table(report: VariantReport, matrix: Matrix) -> Table:
    heads = [Column(plain(name), justify="right") for name in matrix.classes]
    table = Table(Column("champion"), *heads, title=f"Class given by version {report.version}")
    for champion in matrix.classes:
        table.add_row(plain(champion), *(_count(matrix, champion, version) for version in matrix.classes))
    return table


def _count(matrix: Matrix, champion: str, version: str) -> Text:
    count = matrix.count(champion, version)
    if count is None:
        return Text("same", style="dim")
    return Text(
        f"{count:,}" if count else "·", style="green" if champion == version else "bold yellow" if count else "dim"
    )


def _examples_table(report: VariantReport) -> Table:
    table = Table("request id", "champion", f"version {report.version}", title="Answered differently")
    for each in report.disagreements:
        table.add_row(plain(each.request_id), plain(each.champion), plain(each.version))
    return table


def _state(shown: State) -> Text:
    return Text(f"{shown.mark} {shown.word}", style=_STYLES[shown.colour])
