"""With HAProxy itself, which Ray Serve's own class starts; without Ray."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from deployments.haproxy import SteadyHAProxy
from loadtests.server_process import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Ray Serve brings HAProxy for Linux only")


def serve(haproxy: SteadyHAProxy, *ports: int) -> None:
    """Tell it of replicas as its manager does: in new objects each time."""
    replicas = [ServerConfig(f"replica-{port}", "127.0.0.1", port) for port in ports]
    haproxy.set_backend_configs({"http-gateway": BackendConfig("http-gateway", "/", servers=replicas)})


async def is_another_after_reload(haproxy: SteadyHAProxy) -> bool:
    before = await haproxy._get_running_pid()
    await haproxy.reload()
    return bool(before != await haproxy._get_running_pid())


def with_haproxy(directory: Path, scenario: Callable[[SteadyHAProxy], Awaitable[None]]) -> None:
    """Start HAProxy, do something with it that it has been reloaded for once, and stop it."""
    options = HTTPOptions(host="127.0.0.1", port=free_port())
    ports = {"metrics_port": free_port(), "stats_port": free_port()}
    paths = {"socket_path": str(directory / "admin"), "server_state_file": str(directory / "state")}

    async def run() -> None:
        config = HAProxyConfig(http_options=options, metrics_enabled=False, **ports, **paths)
        haproxy = SteadyHAProxy(config, config_file_path=str(directory / "haproxy.cfg"))
        serve(haproxy, 30000)
        await haproxy.start()
        try:
            await haproxy.reload()
            await scenario(haproxy)
        finally:
            await haproxy.stop()

    asyncio.run(run())


def test_it_is_reloaded_for_what_has_changed_only(tmp_path: Path) -> None:
    async def scenario(haproxy: SteadyHAProxy) -> None:
        serve(haproxy, 30000)
        assert not await is_another_after_reload(haproxy)
        serve(haproxy, 30000, 30001)
        assert await is_another_after_reload(haproxy)
        assert "127.0.0.1:30001" in Path(haproxy.config_file_path).read_text()
        serve(haproxy, 30001, 30000)
        assert not await is_another_after_reload(haproxy)
        haproxy.set_grpc_fallback_server(ServerConfig("proxy", "127.0.0.1", 30002))
        assert await is_another_after_reload(haproxy)
        assert not await is_another_after_reload(haproxy)

    with_haproxy(tmp_path, scenario)


def test_a_reload_that_failed_is_tried_again(tmp_path: Path) -> None:
    async def scenario(haproxy: SteadyHAProxy) -> None:
        haproxy.cfg.balance_algorithm = "no such algorithm"
        for _ in range(2):
            with pytest.raises(RuntimeError, match="crashed during startup"):
                await haproxy.reload()
        haproxy.cfg.balance_algorithm = "roundrobin"
        assert await is_another_after_reload(haproxy)

    with_haproxy(tmp_path, scenario)


def test_what_drained_meanwhile_is_not_taken_for_what_was_loaded(tmp_path: Path) -> None:
    async def scenario(haproxy: SteadyHAProxy) -> None:
        await haproxy.disable()
        await haproxy.enable()
        assert await is_another_after_reload(haproxy)
        assert not await is_another_after_reload(haproxy)

    with_haproxy(tmp_path, scenario)
