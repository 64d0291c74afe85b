"""What the commands print."""

import os
import sys
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Column, Table
from rich.text import Text

from jobs.frontier import Choice, Measured, frontier
from jobs.replica_pool import RAY_REPLICA_BYTES
from jobs.tune import Tuning
from models.manifest import Artifact, DecodingCheck, Manifest

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_addresses(address: str, dashboard: str) -> None:
    """Print where the API, its docs and the Ray dashboard are."""
    command = os.path.relpath(Path(sys.executable).with_name("ray"))
    out.print("\n[green]Serving.[/] Ctrl-C stops everything.")
    for name, where in (
        ("API", address),
        ("docs", f"{address}/docs"),
        ("Ray dashboard", f"{dashboard}  (it asks for a token: {command} get-auth-token)"),
    ):
        out.print(f"  {name:14} {where}", soft_wrap=True)


def print_diff(diff: str) -> None:
    """Print a unified diff."""
    if not diff:
        out.print("The configuration says so already.")
    elif out.is_terminal:
        out.print(Syntax(diff, "diff", background_color="default"))
    else:
        out.print(diff, markup=False, end="", soft_wrap=True)


def print_published(manifest: Manifest) -> None:
    """Print a new version with its artifacts and those that were left out."""
    out.print(f"[green]Published {manifest.model} version {manifest.version}.[/]{_accuracy(manifest)}")
    _print_artifacts(manifest)


def _accuracy(manifest: Manifest) -> str:
    accuracy = manifest.metrics.get("accuracy")
    return "" if accuracy is None else f" Held-out accuracy [bold]{accuracy:.4f}[/]."


def _print_artifacts(manifest: Manifest) -> None:
    out.print(_artifact_table(manifest))
    out.print(f"{manifest.chosen} was chosen: {manifest.chosen_because}.", soft_wrap=True, markup=False)
    out.print(_embedding(manifest), soft_wrap=True, markup=False)
    out.print(_reference(manifest), soft_wrap=True, markup=False)
    for left in manifest.left_out:
        out.print(f"{left.kind} was left out: {left.why}.", soft_wrap=True, markup=False)
    if manifest.decoding is not None:
        _print_decoding(manifest.decoding)


def _embedding(manifest: Manifest) -> str:
    """Whether what runs gives an embedding, and why not."""
    artifact = manifest.find(manifest.chosen)
    if artifact.embedding is not None:
        of = artifact.embedding
        return f"Embedding: {of.dimensions} numbers, projected from the {of.width} that the last layer takes."
    if manifest.output == "tensors":
        return "No embedding: only of classifiers."
    if artifact.kind == "savedmodel":
        return "No embedding: a SavedModel gives none."
    return "No embedding: the last layer was not found."


def _reference(manifest: Manifest) -> str:
    if manifest.reference is None:
        return (
            "No reference for drift: there was no --validation; "
            f"freeze some traffic later: tiltyard reference {manifest.model}@{manifest.version} --from-traffic 7d"
        )
    return f"Reference for drift: {manifest.reference.rows:,} validation rows."


def _print_decoding(check: DecodingCheck) -> None:
    answers = f"differ by up to {percent(check.relative_diff)} of their range"
    if check.agreement is not None:
        answers = f"name the same class for {percent(check.agreement)}"
    if check.accuracy_loss is not None:
        answers = f"lose {100 * check.accuracy_loss:.2f} points of accuracy"
    pixels = f"{check.mean_pixel_diff:.2f} of 255 on average and {check.max_pixel_diff} at most"
    out.print(
        f"Scaled decoding of large JPEGs is {check.verdict}. It takes {check.time_ratio:.2f} of the time. On"
        f" {check.rows} pictures, pixels are off by {pixels}, answers {answers}.",
        soft_wrap=True,
        markup=False,
    )


def _artifact_table(manifest: Manifest) -> Table:
    table = Table("artifact", "size", "accuracy", "agreement", "max difference", "1 row", "")
    for artifact in manifest.artifacts:
        table.add_row(*_artifact_row(artifact), "chosen" if artifact.kind == manifest.chosen else "")
    for left in manifest.left_out:
        row = (left.kind, *[""] * 5) if left.measured is None else _artifact_row(left.measured)
        table.add_row(*row, "left out")
    return table


def _artifact_row(artifact: Artifact) -> tuple[str, ...]:
    relative = "" if artifact.relative_diff is None else f", {percent(artifact.relative_diff)} of the range"
    return (
        artifact.kind if artifact.precision is None else f"{artifact.kind}, {artifact.precision}",
        f"{artifact.bytes / 1e6:.2f} MB",
        percent(artifact.accuracy),
        "" if artifact.agreement is None else f"{percent(artifact.agreement)} of {artifact.compared_rows}",
        "" if artifact.max_abs_diff is None else f"{artifact.max_abs_diff:.2g}{relative}",
        "" if artifact.latency_ms is None else f"{artifact.latency_ms:.3g} ms",
    )


def print_manifest(manifest: Manifest) -> None:
    """Print all of a version."""
    out.print(f"[bold]{manifest.model}[/] version {manifest.version}{_accuracy(manifest)}")
    grid = Table.grid(padding=(0, 2))
    for role, specs in (("input", manifest.signature.inputs), ("output", manifest.signature.outputs)):
        for spec in specs:
            grid.add_row(role, str(spec), "" if role == "input" else manifest.output)
    if manifest.preprocessing is not None:
        fields = manifest.preprocessing.model_dump()
        grid.add_row("preprocessing", ", ".join(f"{name} {value}" for name, value in fields.items()))
    if manifest.labels is not None:
        shown = ", ".join(manifest.labels[:10])
        grid.add_row("labels", f"{len(manifest.labels)}: {shown}{', ...' if len(manifest.labels) > 10 else ''}")
    if manifest.provenance is not None:
        made = manifest.provenance
        grid.add_row("made from", f"{made.source} at {made.created:%Y-%m-%d %H:%M:%S} UTC")
        grid.add_row("code commit", made.code_commit or "unknown")
        grid.add_row("data sha256", made.data_sha256 or "unknown")
        grid.add_row("libraries", ", ".join(f"{name} {number}" for name, number in made.libraries.items()))
    out.print(grid)
    _print_artifacts(manifest)


def print_frontier(tuning: Tuning, choice: Choice | None) -> None:
    """Print the settings that no other beats, the chosen one among them and why."""
    shown = set(frontier(tuning.measured)) | ({choice.measured} if choice else set())
    table = Table(*(Column(name, justify="right") for name in _FRONTIER), "")
    for each in sorted(shown, key=lambda m: m.p99_ms):
        chosen = choice is not None and each == choice.measured
        table.add_row(*_frontier_row(each), "chosen" if chosen else "", style="bold green" if chosen else None)
    out.print(table)
    out.print(
        f"p50 and p99 are times of one batch, {tuning.call_ms:g} ms for the call that brings it included. "
        f"Under Ray each replica holds about {RAY_REPLICA_BYTES // 1024**2} MiB more.",
        soft_wrap=True,
    )
    out.print(
        f"The best of {len(tuning.measured)} settings, medians of {tuning.rounds} rounds, "
        f"{tuning.elapsed_s:.0f} s in all."
    )
    for what, why in tuning.left_out.items():
        out.print(f"Not measured: {what}: {why}.", soft_wrap=True, markup=False)
    if choice is not None:
        out.print(f"Chosen: {choice.measured.setting}: {choice.because}.", soft_wrap=True)
        if choice.portion is not None:
            rows = f"{choice.portion} row{'s' * (choice.portion > 1)}"
            out.print(
                f"Its model computes them faster in portions of {rows}: max_execution_batch_size.", soft_wrap=True
            )


def print_written(path: Path, name: str, restarts: bool) -> None:
    """Print what a changed serve_config.yaml means for a service that runs."""
    out.print(f"[green]{path} is written.[/] What runs is as before, until you apply it:", soft_wrap=True)
    out.print(f"  RAY_AUTH_MODE=token serve deploy {path}", soft_wrap=True, style="bold")
    if restarts:
        out.print(f"That restarts the replicas of {name}, because its args change.", soft_wrap=True)
    else:
        out.print(f"No replica of {name} is restarted: only their number or their batches change.", soft_wrap=True)


_FRONTIER = ("replicas", "threads", "batch", "rows/s", "p50, ms", "p99, ms", "MiB each")


def _frontier_row(measured: Measured) -> tuple[str, ...]:
    setting = measured.setting
    return (
        *(str(number) for number in (setting.replicas, setting.threads, setting.batch)),
        f"{measured.rows_per_s:,.0f}",
        f"{measured.p50_ms:.3g}",
        f"{measured.p99_ms:.3g}",
        f"{measured.replica_bytes / 1024**2:,.0f}",
    )


def plain(words: str) -> Text:
    """What came from outside, without markup and without anything that would steer the terminal."""
    return Text("".join(letter if letter.isprintable() else "�" for letter in words))


def percent(share: float | None) -> str:
    """A share as text; empty where there is none."""
    return "" if share is None else f"{share:.2%}"
