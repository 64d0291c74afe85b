"""`tiltyard publish`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.options import ArtifactOption, StoreOption
from jobs.cli.progress import shown_progress
from jobs.printing import out, print_published
from jobs.tolerance import Tolerance
from models.errors import InvalidRequest
from models.preprocessing import Channels, Fit, Layout, Resize
from models.store import DEFAULT_ROOT, Store, check_name


def publish(
    name: Annotated[str, typer.Argument(help="Name of the model.")],
    path: Annotated[Path, typer.Argument(help="A SavedModel directory, a .keras file or an .onnx file.")],
    version: Annotated[int | None, typer.Option(min=1, help="Its number; the next free one by default.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Class names, one per line.")] = None,
    image: Annotated[
        str | None, typer.Option(metavar="HEIGHTxWIDTH", help="The model takes images; size to resize them to.")
    ] = None,
    channels: Annotated[Channels | None, typer.Option(help="Order of the colours.")] = None,
    resize: Annotated[Resize | None, typer.Option(help="Interpolation; bilinear by default.")] = None,
    fit: Annotated[
        Fit | None, typer.Option(help="stretch (by default), pad: keep the whole image, crop: keep its centre.")
    ] = None,
    scale: Annotated[float | None, typer.Option(help="Pixels are multiplied by it: 0.00392157 gives 0 to 1.")] = None,
    mean: Annotated[str | None, typer.Option(metavar="M[,M,M]", help="Subtracted after scaling.")] = None,
    std: Annotated[str | None, typer.Option(metavar="D[,D,D]", help="Divided by after that.")] = None,
    layout: Annotated[Layout | None, typer.Option(help="Order of the input's dimensions.")] = None,
    golden: Annotated[
        Path | None, typer.Option(help="Inputs to check replicas with: .npz, one array per input.")
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            help="Labelled rows, for accuracy and for drift: .npz, one array per input, and `classes`; or a directory "
            "with a directory of images for each class."
        ),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Rows to calibrate int8 with: .npz, one array per input, 16 rows or more.")
    ] = None,
    scaled_decode: Annotated[
        bool | None,
        typer.Option(
            "--scaled-decode/--no-scaled-decode",
            help="Let the decoder of large JPEGs make them smaller; by default where the answers stay the same.",
            show_default=False,
        ),
    ] = None,
    artifact: ArtifactOption = None,
    max_accuracy_loss: Annotated[
        float, typer.Option(help="What int8 and bfloat16 may lose of the accuracy: 0.005 is half a point.")
    ] = Tolerance.max_accuracy_loss,
    min_agreement: Annotated[
        float, typer.Option(help="Without --validation: on which share of rows it must name the same class.")
    ] = Tolerance.min_agreement,
    max_difference: Annotated[
        float, typer.Option(help="Of outputs that are no classes: how far off, as a share of their range.")
    ] = Tolerance.max_difference,
    store: StoreOption = DEFAULT_ROOT,
) -> None:
    """Publish a model someone made as the next immutable version.

    For an image model, scaling and layout are put into the artifact, so that it takes the uint8 pixels that are
    served; what the model's signature already tells (size, layout, channels) need not be said.

    An int8 artifact is made too, calibrated with --calibration, --validation or --golden, or with sample photographs
    for an image model, and both are tried with OpenVINO, in bfloat16 where the CPU has it. The fastest artifact within
    the tolerance is the one that runs.

    tiltyard publish mobilenetv2 mobilenetv2.onnx --image 224x224 --scale 0.00392157
    """
    from jobs import conversion, publish, row_files
    from jobs.image_options import ImageOptions, image_input, looks_like_image

    check_name(name)
    options = ImageOptions(image, channels, resize, fit, scale, mean, std, layout)
    with shown_progress() as progress:
        task = progress.add_task(f"publishing {name}", total=None, status="loading the model")
        source = conversion.open_source(path)
        publication = publish.Publication(
            model=name,
            source=source,
            image=image_input(options, source.signature),
            version=version,
            labels=None if labels is None else _read_labels(labels),
            artifact=artifact,
            golden=None if golden is None else row_files.read_inputs(golden),
            calibration=None if calibration is None else row_files.read_inputs(calibration),
            scaled_decode=scaled_decode,
            tolerance=Tolerance(max_accuracy_loss, min_agreement, max_difference),
        )
        if validation is not None:
            progress.update(task, status="reading the validation rows")
            publication = replace(publication, validation=publish.read_validation(validation, publication))
        published = publish.publish(Store(store), publication, lambda step: progress.update(task, status=step))
        progress.update(task, total=1, completed=1, status="published")
    print_published(published.manifest)
    if publication.image is None and looks_like_image(source.signature):
        out.print("The input looks like an image. With --image, images can be sent to it as they are.")
    out.print(f"Serve it: [bold]tiltyard deploy {name}@{published.manifest.version}[/]")


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        return tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"--labels {path}: {error}") from None
