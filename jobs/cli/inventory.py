"""`tiltyard list` and `show`: what the store holds."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from jobs.cli.options import StoreOption, parse_version
from jobs.printing import out, percent, print_manifest
from models.errors import InvalidManifest
from models.store import DEFAULT_ROOT, Store, plain_artifact


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


def show(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The newest version by default.")],
    store: StoreOption = DEFAULT_ROOT,
) -> None:
    """Show what is known of a version: signature, preprocessing, artifacts, provenance."""
    from models.version import load_version

    opened = Store(store)
    model, version = parse_version(name, opened)
    manifest = opened.manifest(model, version) or load_version(opened, model, version).manifest
    print_manifest(manifest)
