"""Runs a command of `tiltyard` beside the service: it edits serve_config.yaml and applies it, as a person's does."""

import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.errors import Conflict, DeadlineExceeded, ServiceError, TiltyardError
from models.store import DEFAULT_ROOT

logger = logging.getLogger("ray.serve")

TIMEOUT_S = 240.0
PROJECT = DEFAULT_ROOT.parents[1]

_ONE = asyncio.Lock()


async def run_command(arguments: Sequence[str]) -> dict[str, Any]:
    """Run one at a time, and give what it prints as JSON. Raises Conflict while another runs, and what it refuses."""
    if _ONE.locked():
        raise Conflict("another operation is under way; try again when it is done")
    async with _ONE:
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("tiltyard"),
            *arguments,
            cwd=PROJECT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                output, errors = await process.communicate()
        except TimeoutError:
            process.terminate()
            raise DeadlineExceeded(f"the command took longer than {TIMEOUT_S:g} s; look at the service") from None
    return _read(output, errors)


def _read(output: bytes, errors: bytes) -> dict[str, Any]:
    try:
        said = json.loads(output)
    except ValueError:
        logger.error("a command failed: %s", errors.decode(errors="replace")[-2000:])
        raise ServiceError("the command failed; the Router's log has the reason") from None
    if "error" in said:
        raise _refusal(said["error"])
    answer: dict[str, Any] = said
    return answer


def _refusal(error: dict[str, str]) -> TiltyardError:
    """The command's own error, of its own class."""
    found = next((kind for kind in _family(TiltyardError) if kind.code == error["code"]), ServiceError)
    return found(error["message"])


def _family(kind: type[TiltyardError]) -> list[type[TiltyardError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in _family(child))]
