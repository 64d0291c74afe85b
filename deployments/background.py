"""Work that is nobody's request."""

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any


def start(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> asyncio.Task[None]:
    """Start it outside the context of whatever request runs now, and keep it alive in `tasks`: the loop does not."""
    task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task
