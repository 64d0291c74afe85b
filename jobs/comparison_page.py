"""A comparison as a page for people who were not there: one file that needs no network, no script and no font."""

from datetime import datetime

from jobs.agreement_matrix import Matrix, agreement_matrix
from jobs.comparison import Comparison
from jobs.comparison_charts import interval_plot, latencies
from jobs.comparison_words import headlines, state
from jobs.guard_words import check_state, estimate, guard_words, needed_words
from jobs.number_words import enumerated, percent
from jobs.pages import environment
from jobs.side_by_side import side_by_side

MAX_HISTORY = 100
MAX_EXAMPLES = 20


def comparison_page(comparison: Comparison, made_at: datetime) -> str:
    """The whole HTML document. Everything that came from outside is escaped."""
    return (
        environment(
            state=state,
            check_state=check_state,
            guard=lambda check: guard_words(check.name),
            estimate=estimate,
            needed=needed_words,
            plot=interval_plot,
            percent=percent,
            paint=_paint,
        )
        .get_template("comparison.html.jinja")
        .render(
            comparison=comparison,
            title=_title(comparison),
            headlines=headlines(comparison),
            rows=side_by_side(comparison),
            latencies=latencies(comparison),
            matrices={each.version: agreement_matrix(each.statistics) for each in comparison.contenders},
            history=sorted(comparison.history, key=lambda past: past.time, reverse=True)[:MAX_HISTORY],
            left_out=max(0, len(comparison.history) - MAX_HISTORY),
            max_examples=MAX_EXAMPLES,
            made_at=made_at,
        )
    )


def _title(comparison: Comparison) -> str:
    versions = [str(each.version) for each in comparison.contenders]
    if not versions:
        return f"{comparison.model}: the champion, version {comparison.champion}"
    plural = "versions" if len(versions) > 1 else "version"
    return f"{comparison.model}: {plural} {enumerated(versions)} against the champion, version {comparison.champion}"


def _paint(matrix: Matrix, champion: str, version: str) -> str:
    """The colour of a cell: its kind, and how strong in percent; zero stays blank."""
    count = matrix.count(champion, version)
    if not count:
        return ""
    on, beside = matrix.largest
    strength = 15 + round(55 * count / (on if champion == version else beside))
    return f"--paint: var(--{'same' if champion == version else 'other'}); --strength: {strength}%"
