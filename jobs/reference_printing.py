"""What `tiltyard reference` prints."""

from jobs.printing import out
from models.reference import TRUE_LABEL, FoundReference


def print_reference(model: str, version: int, found: FoundReference | None) -> None:
    """Print what the traffic of a version is compared with."""
    name = f"{model} version {version}"
    if found is None:
        out.print(
            f"{name} has no reference: no validation rows were published with it, and no traffic of it is frozen "
            f"(tiltyard reference {model}@{version} --from-traffic 7d).",
            soft_wrap=True,
        )
        return
    origin = found.origin
    drawn = "" if origin.drawn_from in (None, found.rows) else f" of {origin.drawn_from:,}"
    if origin.since is None or origin.until is None:
        what = f"the validation set, published {origin.created:%Y-%m-%d %H:%M} UTC"
    else:
        what = f"its traffic from {origin.since:%Y-%m-%d %H:%M} to {origin.until:%Y-%m-%d %H:%M} UTC"
        what += f", frozen {origin.created:%Y-%m-%d %H:%M} UTC"
    labels = found.read([TRUE_LABEL])[TRUE_LABEL]
    known = len(labels) - labels.null_count
    out.print(f"{name} is compared with {found.rows:,} rows{drawn} of {what}.", soft_wrap=True)
    out.print(f"The right class is known of {known:,}. File: {found.path}", soft_wrap=True, markup=False)
