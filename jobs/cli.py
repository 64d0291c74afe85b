"""The `tiltyard` command."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from jobs import compare_command
from jobs.frontier import RULE
from jobs.printing import (
    err,
    out,
    percent,
    print_addresses,
    print_diff,
    print_frontier,
    print_manifest,
    print_published,
    print_written,
)
from jobs.service import DASHBOARD
from jobs.tensorflow_import import import_tensorflow
from jobs.tolerance import Tolerance
from jobs.tune import CALL_MS
from models.errors import InvalidManifest, InvalidRequest, TiltyardError
from models.manifest import ArtifactKind
from models.preprocessing import Channels, Fit, Layout, Resize
from models.store import DEFAULT_ROOT, Store, check_name, plain_artifact

app = typer.Typer(
    help="Put TensorFlow and ONNX models into production on Ray Serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

StoreOption = Annotated[
    Path,
    typer.Option(
        "--store",
        envvar="TILTYARD_STORE",
        help="Directory of published versions.",
        show_default=False,
        resolve_path=True,
    ),
]
FileOption = Annotated[Path, typer.Option("--file", "-f", help="The configuration that is edited and applied.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the diff; change nothing.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", help="Seconds to wait for the service.")]
AddressOption = Annotated[
    str,
    typer.Option(
        "--address",
        envvar="RAY_DASHBOARD_ADDRESS",
        help="The Ray dashboard of the running service.",
    ),
]
ArtifactOption = Annotated[
    ArtifactKind | None, typer.Option("--artifact", help="Run this one, whatever is faster.", show_default=False)
]


app.command()(compare_command.compare)


def main() -> None:
    """Run the command; a refusal is one line on stderr and exit status 1."""
    # Read when ray is imported: use the token in ~/.ray/auth_token or RAY_AUTH_TOKEN.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        app()
    except TiltyardError as error:
        err.print(f"[bold red]error[/] ({error.code}): {escape(error.message)}", soft_wrap=True)
        sys.exit(1)


@app.command()
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
        with _progress() as progress:
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


@app.command()
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
        typer.Option(help="Labelled rows to measure accuracy on: .npz, one array per input, and `classes`."),
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
        float, typer.Option(help="What int8 may lose of the accuracy: 0.005 is half a point.")
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
    for an image model. The fastest artifact within the tolerance is the one that runs.

    tiltyard publish mobilenetv2 mobilenetv2.onnx --image 224x224 --scale 0.00392157
    """
    from jobs import conversion, publish
    from jobs.image_options import ImageOptions, image_input, looks_like_image

    check_name(name)
    options = ImageOptions(image, channels, resize, fit, scale, mean, std, layout)
    with _progress() as progress:
        task = progress.add_task(f"publishing {name}", total=None, status="loading the model")
        source = conversion.open_source(path)
        publication = publish.Publication(
            model=name,
            source=source,
            image=image_input(options, source.signature),
            version=version,
            labels=None if labels is None else _read_labels(labels),
            artifact=artifact,
            golden=None if golden is None else publish.read_inputs(golden),
            validation=None if validation is None else publish.read_validation(validation),
            calibration=None if calibration is None else publish.read_inputs(calibration),
            scaled_decode=scaled_decode,
            tolerance=Tolerance(max_accuracy_loss, min_agreement, max_difference),
        )
        published = publish.publish(Store(store), publication, lambda step: progress.update(task, status=step))
        progress.update(task, total=1, completed=1, status="published")
    print_published(published.manifest)
    if publication.image is None and looks_like_image(source.signature):
        out.print("The input looks like an image. With --image, images can be sent to it as they are.")
    out.print(f"Serve it: [bold]tiltyard deploy {name}@{published.manifest.version}[/]")


@app.command(name="list")
def list_(store: StoreOption = DEFAULT_ROOT) -> None:
    """List the models in the store with their versions."""
    opened = Store(store)
    table = Table("model", "version", "artifact", "accuracy", "created", "from")
    for name in opened.models():
        for number in opened.versions(name):
            try:
                manifest = opened.manifest(name, number)
            except InvalidManifest as error:
                table.add_row(name, str(number), "", "", "", escape(f"broken: {error.message}"))
                continue
            if manifest is None:
                plain = plain_artifact(opened.directory(name, number))
                table.add_row(name, str(number), plain.kind if plain else "", "", "", "plain tree")
                continue
            provenance = manifest.provenance
            table.add_row(
                name,
                str(number),
                manifest.chosen,
                percent(manifest.metrics.get("accuracy")),
                f"{provenance.created:%Y-%m-%d %H:%M}" if provenance else "",
                provenance.source if provenance else "",
            )
    if not table.row_count:
        out.print("The store is empty. `tiltyard train digits` publishes the example, `tiltyard publish` your model.")
        return
    out.print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The newest version by default.")],
    store: StoreOption = DEFAULT_ROOT,
) -> None:
    """Show what is known of a version: signature, preprocessing, artifacts, provenance."""
    from models.version import load_version

    opened = Store(store)
    model, version = _parse(name, opened)
    manifest = opened.manifest(model, version) or load_version(opened, model, version).manifest
    print_manifest(manifest)


@app.command()
def deploy(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The newest version by default.")],
    file: FileOption = Path("serve_config.yaml"),
    artifact: ArtifactOption = None,
    dry_run: DryRunOption = False,
    timeout: TimeoutOption = 180.0,
    address: AddressOption = DASHBOARD,
    store: StoreOption = DEFAULT_ROOT,
) -> None:
    """Serve a published version: write it into serve_config.yaml and apply that to the running service.

    Nothing that runs already is touched. The first version of a model becomes its champion; a later one is loaded
    beside it without traffic of its own, to be asked by ?version=N.
    """
    from jobs import deploy

    opened = Store(store)
    model, version = _parse(name, opened)
    with deploy.alone(file):
        change = deploy.plan_deploy(file, opened, model, version, artifact)
        print_diff(change.diff)
        if dry_run:
            return
        service = deploy.running_service(address)
        with err.status(f"deploying {model} version {version}") as status:
            deploy.deploy(change, service, model, version, timeout, lambda text: status.update(escape(text)))
    if service is None:
        out.print(f"No service runs at {address}: {file} is written, `make serve` will serve it.")
    else:
        out.print(f"[green]{model} version {version} answers[/] at {service.gateway_address()}/models/{model}")


@app.command()
def undeploy(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The whole model if no version is given.")],
    file: FileOption = Path("serve_config.yaml"),
    dry_run: DryRunOption = False,
    timeout: TimeoutOption = 60.0,
    address: AddressOption = DASHBOARD,
) -> None:
    """Stop serving a version or a model; it stays in the store."""
    from jobs import deploy

    model, _, number = name.partition("@")
    with deploy.alone(file):
        change = deploy.plan_undeploy(file, model, _version_number(number) if number else None)
        print_diff(change.diff)
        if dry_run:
            return
        service = deploy.running_service(address)
        with err.status(f"undeploying {name}"):
            deploy.undeploy(change, service, timeout)
    if service is None:
        out.print(f"No service runs at {address}: {file} is written.")
    else:
        out.print(f"[green]{name} is no longer served.[/]")


@app.command(
    name="tune",
    help=f"""Measure batch size x threads x replicas of a version here, and write the best into FILE.

    Replicas are processes that run batches of the golden inputs back to back, without Ray, HTTP and preprocessing,
    which take their share of the machine on top; what bringing a batch to a replica costs (--call-ms) is added to each.
    p99 is the time of one batch, on replicas that are never idle. Stop what else runs first.

    {RULE} With --target-p99-ms only the settings within it count.""",
)
def tune_(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The newest version by default.")],
    version: Annotated[int | None, typer.Option(min=1, help="The same as NAME@VERSION.")] = None,
    file: Annotated[Path, typer.Option("--config", "--file", "-f", help="What is edited.")] = Path("serve_config.yaml"),
    budget_s: Annotated[float, typer.Option(min=1, help="About how many seconds it takes.")] = 60.0,
    target_p99_ms: Annotated[
        float | None, typer.Option(help="The longest that a batch may take, of 99 in 100.", show_default=False)
    ] = None,
    call_ms: Annotated[float, typer.Option(min=0, help="What each batch costs besides the model.")] = CALL_MS,
    dry_run: DryRunOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")] = False,
    store: StoreOption = DEFAULT_ROOT,
) -> None:
    """Measure, show, ask, write."""
    from jobs import deploy, machine, sizing
    from jobs.frontier import choose
    from jobs.tune import tune

    opened = Store(store)
    model, number = _parse(name if version is None else f"{name}@{version}", opened)
    cores = machine.cores()
    if (busy := os.getloadavg()[0]) > cores / 2:
        err.print(f"[yellow]The machine is busy[/] (load {busy:.1f} on {cores} cores): that is measured too.")
    with _progress() as progress:
        task = progress.add_task(f"measuring {model} version {number}", total=1, status=f"checking {file}")
        order = sizing.served_artifact(file, opened, model, number, deployed=not dry_run)

        def show(share: float, what: str) -> None:
            progress.update(task, completed=share, status=what)

        try:
            tuning = tune(order, cores, budget_s, target_p99_ms, show, call_ms)
        except KeyboardInterrupt:
            show(1, "stopped: nothing is written")
            raise
        show(1, "done")
    try:
        choice = choose(tuning.measured, target_p99_ms)
    except InvalidRequest:
        print_frontier(tuning, None)
        raise
    print_frontier(tuning, choice)
    setting = choice.measured.setting
    if (setting.replicas, setting.threads) in tuning.unfinished:
        raise InvalidRequest("larger batches may do better, but there was no time for them: give more --budget-s")
    with deploy.alone(file):
        change = sizing.plan_setting(file, opened, model, number, setting)
        print_diff(change.diff)
        if dry_run or not change.diff:
            if not change.before.has(model, number):
                out.print(f"It is not deployed: [bold]tiltyard deploy {model}@{number}[/] first, then tune it again.")
            return
        if not yes and not typer.confirm(f"Write this to {file}?"):
            out.print("Nothing was written.")
            return
        deploy.write(change)
    print_written(file, f"{model} version {number}", sizing.restarts(change, model, number))


@app.command()
def serve(
    file: Annotated[Path, typer.Argument(help="What runs.")] = Path("serve_config.yaml"),
) -> None:
    """Run `serve run FILE` with Ray Serve's fast ingress; train the digits first if they are not published yet."""
    from jobs.serve import Serving, unpublished

    for model, version, store in unpublished(file):
        if model != "digits" or version not in (1, 2):
            raise InvalidRequest(f"{file} names {model} version {version}, which is not published; `tiltyard list`")
        # In a process of its own: TensorFlow would stay in the memory of this one for as long as it serves.
        trained = subprocess.run([sys.argv[0], "train", "digits", "--store", str(store)], check=False)
        if trained.returncode != 0:
            sys.exit(trained.returncode)
        break
    for end in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, lambda number, _: sys.exit(128 + number))
    serving = Serving(file)
    try:
        if serving.wait_until_healthy(lambda text: out.print(text, markup=False)):
            print_addresses(serving.address, serving.dashboard)
        code = serving.wait()
    except KeyboardInterrupt:
        out.print("\nStopping ...")
        code = 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
        serving.stop()
    sys.exit(code)


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        return tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"--labels {path}: {error}") from None


def _parse(name: str, store: Store) -> tuple[str, int]:
    model, _, number = name.partition("@")
    return model, _version_number(number) if number else store.latest(model)


def _version_number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise InvalidRequest(f"version {text!r}: expected a positive integer, as in digits@2")
    return int(text)


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        yield progress
