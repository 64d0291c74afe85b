"""HAProxy as Ray Serve runs it, but reloaded only where its configuration has changed.

Ray Serve reloads it whenever the controller has told of its targets, also where they are what they were: a Router that
takes a new user_config is out of the routing for a moment. On full cores answers were late then (loadtests/RESULTS.md),
and each client had to connect anew. Ray means to compare, too: https://github.com/ray-project/ray/pull/66157.
"""

import logging
from dataclasses import replace
from typing import Any

from ray.serve._private import haproxy

logger = logging.getLogger("ray.serve")


class SteadyHAProxy(haproxy.HAProxyApi):  # type: ignore[misc]  # Ray has no types
    """What HAProxy's manager reloads HAProxy with, one reload at a time."""

    _loaded: tuple[Any, ...] | None = None

    async def reload(self) -> None:
        """Start another process with the present configuration, if it differs. Raises RuntimeError where that fails."""
        if self._configured() == self._loaded:
            logger.info("HAProxy goes on with the configuration that it has.")
            return
        await super().reload()
        self._loaded = self._configured()

    def _configured(self) -> tuple[Any, ...]:
        """All that a configuration is made of, and the process that runs with it; another one is not known."""
        backends = {  # a replica that was away for a moment is now the last one
            name: replace(backend, servers=sorted(backend.servers, key=str))
            for name, backend in self.backend_configs.items()
        }
        return self._proc, replace(self.cfg), backends, self.grpc_fallback_server


def stand_in() -> None:
    """In Ray Serve's controller, before that starts a manager: Ray brings managers the class that it finds here.

    Ray Serve calls it because RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH names it.
    """
    haproxy.HAProxyApi = SteadyHAProxy
