"""Tools that write a file, each run in a process of its own, so that its memory goes with it."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.errors import ConversionFailed


def run_converter(
    name: str, command: Sequence[str], target: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Run a tool that has to write `target`. Raises ConversionFailed with the last line that it printed."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not target.exists():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise ConversionFailed(f"{name}: {lines[-1] if lines else f'exit status {done.returncode}'}")
