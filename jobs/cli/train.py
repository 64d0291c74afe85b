"""`tiltyard train`."""

from typing import Annotated, Any

import typer
from rich.progress import Progress

from jobs.cli.options import StoreOption
from jobs.cli.progress import shown_progress
from jobs.printing import out, print_published
from jobs.tensorflow_import import import_tensorflow
from models.errors import InvalidRequest
from models.store import DEFAULT_ROOT, Store


def train(
    name: Annotated[str, typer.Argument(help="What to train: `digits`.")], store: StoreOption = DEFAULT_ROOT
) -> None:
    """Train and publish the example model: handwritten digits, a dense baseline and a convolutional network."""
    if name != "digits":
        raise InvalidRequest(f"there is no training for {name!r}; there is: digits")
    import_tensorflow()
    from jobs import digits, train

    data, opened = digits.load(), Store(store)
    for recipe in train.RECIPES:
        if recipe.version in opened.versions(train.MODEL):
            out.print(f"{train.MODEL} version {recipe.version}, the {recipe.name}, is published already.")
            continue
        with shown_progress() as progress:
            task = progress.add_task(f"training the {recipe.name}", total=recipe.epochs, status="")

            def show(epoch: int, epochs: int, accuracy: float, progress: Progress = progress, task: Any = task) -> None:
                progress.update(
                    task, completed=epoch, status=f"epoch {epoch}/{epochs}, training accuracy {accuracy:.3f}"
                )

            def report(step: str, progress: Progress = progress, task: Any = task) -> None:
                progress.update(task, status=step)

            published = train.train(opened, data, recipe, show, report)
            progress.update(task, status="published")
        print_published(published.manifest)
