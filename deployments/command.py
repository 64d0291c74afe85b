"""Runs a command of `tiltyard` beside the service: it edits serve_config.yaml and applies it, as a person's does."""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deployments.precedence import come_after_answers
from models.errors import Busy, DeadlineExceeded, ServiceError, TiltyardError
from models.store import DEFAULT_ROOT

logger = logging.getLogger("ray.serve")

TIMEOUT_S = 240.0
PROJECT = DEFAULT_ROOT.parents[1]

_ONE = asyncio.Lock()


async def run_command(arguments: Sequence[str]) -> dict[str, Any]:
    """Run one at a time, and give what it prints as JSON. Raises Busy while another runs, and what it refuses.

    It goes on to its end when the client does not wait for it.
    """
    if _ONE.locked():
        raise Busy("another operation is under way; try again when it is done")
    running = asyncio.ensure_future(_run(arguments))
    return await asyncio.shield(running)


async def _run(arguments: Sequence[str]) -> dict[str, Any]:
    async with _ONE:
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("tiltyard"),
            *arguments,
            cwd=PROJECT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=come_after_answers,
        )
        reading = asyncio.ensure_future(process.communicate())
        done, _ = await asyncio.wait([reading], timeout=TIMEOUT_S)
        if not done:
            process.send_signal(signal.SIGINT)  # it makes everything as it was, and ends
        output, errors = await reading
    if not done:
        raise DeadlineExceeded(f"the command took longer than {TIMEOUT_S:g} s, and was undone")
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
