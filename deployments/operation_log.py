"""Operations that take longer than a request may: what became of each, where every Router can read it."""

import json
import os
import re
import secrets
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from models.errors import UNEXPECTED, NotFound, TiltyardError
from models.store import Store

KEPT = 100
"""Operations that are remembered, the newest."""

ID = re.compile(r"[0-9a-f]{20}")


class OperationLog:
    """One JSON file per operation in the gateway's store: `.operations/ID.json`, written when it begins and ends.

    Where a Router dies with an operation in hand, that stays `running` here; the model's history has what was done.
    """

    def __init__(self, store: Store) -> None:
        self._directory = store.root / ".operations"

    def begin(self, command: str) -> str:
        """Note that a command has begun, and give the operation's id."""
        operation = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"
        self._write(operation, {"operation": operation, "command": command, "state": "running"})
        return operation

    async def followed(self, operation: str, running: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        """Run an operation to its end, and note what it answers or why it failed. Raises what it raises."""
        try:
            answer = await running
        except Exception as error:
            known = error if isinstance(error, TiltyardError) else TiltyardError(UNEXPECTED)
            failure = {"code": known.code, "message": known.message}
            self._write(operation, {**self.read(operation), "state": "failed", "error": failure})
            raise
        self._write(operation, {**self.read(operation), "state": "done", "answer": answer})
        return answer

    def read(self, operation: str) -> dict[str, Any]:
        """What became of an operation. Raises NotFound."""
        if ID.fullmatch(operation):
            with suppress(FileNotFoundError):
                found: dict[str, Any] = json.loads(self._path(operation).read_bytes())
                return found
        raise NotFound(f"no operation {operation!r}; the newest {KEPT} are remembered")

    def _path(self, operation: str) -> Path:
        return self._directory / f"{operation}.json"

    def _write(self, operation: str, content: dict[str, Any]) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        temporary = self._directory / f".{operation}"
        temporary.write_text(json.dumps(content))
        os.replace(temporary, self._path(operation))
        for old in sorted(self._directory.glob("*.json"))[:-KEPT]:
            old.unlink(missing_ok=True)
