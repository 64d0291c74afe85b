"""How an alert reaches somebody: POSTed to a webhook, or handed to a command; tried again, then given up."""

import json
import logging
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, InvalidURL
from typing import IO, Any

from models.errors import TiltyardError
from models.monitoring import Alert, CommandAlert, Webhook

logger = logging.getLogger("tiltyard.alerts")

FIRST_WAIT_S = 1.0
"""Before the second attempt; twice as long before each further one."""

LONGEST_WAIT_S = 30.0

MAX_SAID = 500
"""Characters of what a command printed that are passed on, the last ones."""

MAX_READ = 1 << 20


class NotSent(Exception):
    """An attempt failed."""


class Refused(NotSent):
    """An attempt failed, and so would the next."""


class Later(NotSent):
    """The receiver says when to come again; the second argument is in how many seconds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether it arrived, and if not why; how often it was tried."""

    target: str
    attempts: int
    error: str | None = None


def send(alert: Alert, body: dict[str, Any], sleep: Callable[[float], None] = time.sleep) -> Outcome:
    """Send until it arrives, refuses or was tried often enough. Never raises."""
    data = json.dumps(body).encode()
    wait_s = FIRST_WAIT_S
    for attempt in range(1, alert.attempts + 1):
        try:
            _send_once(alert, data)
            return Outcome(alert.name, attempt)
        except (NotSent, TiltyardError) as failure:
            error = str(failure.args[0])
            logger.warning("alert %s, attempt %d of %d: %s", alert.name, attempt, alert.attempts, error)
            if attempt == alert.attempts or not isinstance(failure, NotSent) or isinstance(failure, Refused):
                break
            sleep(min(LONGEST_WAIT_S, failure.args[1] if isinstance(failure, Later) else wait_s))
            wait_s *= 2
    logger.error("alert %s is given up: %s", alert.name, error)
    return Outcome(alert.name, attempt, error)


def _send_once(alert: Alert, data: bytes) -> None:
    if isinstance(alert, CommandAlert):
        said = run_command(alert.command, data, alert.timeout_s)
        if said is not None:
            raise NotSent(said)
    else:
        _post(alert, data)


def _post(alert: Webhook, data: bytes) -> None:
    headers = {"content-type": "application/json", "user-agent": "tiltyard"}
    try:
        request = urllib.request.Request(alert.address(), data, headers, method="POST")
        with _OPENER.open(request, timeout=alert.timeout_s):
            return
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error) from None
    except (ValueError, InvalidURL):  # which say it whole, and it can be a secret
        raise Refused("the address is no valid URL") from None
    except (OSError, HTTPException) as error:  # no connection, no answer in time, none that is HTTP
        reason = getattr(error, "reason", error)
        raise NotSent(f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else str(reason)) from None


def _refusal(error: urllib.error.HTTPError) -> NotSent:
    said = f"answered {error.code}"
    if error.code != 429 and error.code < 500:
        return Refused(said)
    after = error.headers.get("retry-after", "")
    return Later(said, float(after)) if after.isdecimal() else NotSent(said)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A POST that is redirected would arrive as a GET, without the alert."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def run_command(command: Sequence[str], stdin: bytes, timeout_s: float) -> str | None:
    """Run without a shell, and end it and what it started when time is up; None, or what went wrong.

    What it leaves running in the background when it ends by itself goes on.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:  # nobody waits for a pipe to be closed
        given.write(stdin)
        given.seek(0)
        try:
            process = subprocess.Popen(
                command, stdin=given, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
            )
        except (OSError, ValueError) as error:
            return f"{command[0]}: {getattr(error, 'strerror', None) or error}"
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"{command[0]} took longer than {timeout_s:g} s and was stopped"
        said.seek(0)
        words = " ".join(said.read(MAX_READ).decode(errors="replace").split())[-MAX_SAID:]
    return None if status == 0 else f"{command[0]} ended with status {status}{f': {words}' if words else ''}"
