"""A line that shows how far a long command is."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from jobs.printing import err


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Show tasks on stderr where that is a terminal. Each needs a field `status`."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        yield progress
