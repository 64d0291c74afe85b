"""The running service: Ray Serve's REST API on the dashboard, and the gateway's own HTTP."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from models.errors import TiltyardError

DASHBOARD = "http://127.0.0.1:8265"
"""Where Ray puts its dashboard unless told otherwise."""

POLL_S = 0.5
_FAILED = ("DEPLOY_FAILED", "UNHEALTHY")

Report = Callable[[str], None]


class ServiceNotRunning(TiltyardError):
    """No Ray dashboard answers at the address."""

    code = "service_not_running"


class ServiceRefused(TiltyardError):
    """The Ray dashboard does not accept our token."""

    code = "service_refused"


class DeployFailed(TiltyardError):
    """The service did not come to run what it was told to, with the reason."""

    code = "deploy_failed"


class Service:
    """A Ray Serve instance, reached through its dashboard with Ray's own client, which knows the token."""

    def __init__(self, address: str) -> None:
        from ray.dashboard.modules.serve.sdk import ServeSubmissionClient
        from ray.exceptions import AuthenticationError

        try:
            self._client = ServeSubmissionClient(address)
        except ConnectionError:
            raise ServiceNotRunning(f"no Ray dashboard answers at {address}; `make serve` starts one") from None
        except AuthenticationError as error:
            raise ServiceRefused(f"the Ray dashboard at {address}: {str(error).splitlines()[0]}") from None

    def apply(self, config: dict[str, Any]) -> None:
        """Declare what runs. Applications that stay the same are not touched. Raises DeployFailed."""
        try:
            self._client.deploy_applications(config)
        except RuntimeError as error:
            raise DeployFailed(f"Ray Serve refused the configuration: {last_line(str(error))}") from None

    def details(self) -> dict[str, Any]:
        """What Ray Serve says of itself."""
        details: dict[str, Any] = self._client.get_serve_details()
        return details

    def wait_until_running(self, name: str, timeout_s: float, report: Report) -> None:
        """Wait for an application. Raises DeployFailed with the reason, or what it waited for."""
        deadline = time.monotonic() + timeout_s
        waiting_for = "to be noticed by Ray Serve"
        while time.monotonic() < deadline:
            application = self.details()["applications"].get(name)
            if application is not None:
                if application["status"] == "RUNNING":
                    return
                waiting_for = reason(application)
                if application["status"] in _FAILED:
                    raise DeployFailed(f"{name} did not start: {waiting_for}")
                report(f"{name}: {waiting_for}")
            time.sleep(POLL_S)
        raise DeployFailed(f"{name} is not running after {timeout_s:g} s: {waiting_for}")

    def wait_until_gone(self, name: str, timeout_s: float) -> None:
        """Wait until an application is removed. Raises DeployFailed."""
        deadline = time.monotonic() + timeout_s
        while name in self.details()["applications"]:
            if time.monotonic() > deadline:
                raise DeployFailed(f"{name} is still there after {timeout_s:g} s")
            time.sleep(POLL_S)

    def wait_until_answering(self, model: str, version: int, timeout_s: float) -> None:
        """Wait until the Router says that the version is ready. Raises DeployFailed."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            status, body = get_json(f"{self.gateway_address()}/models/{model}")
            if status == 200 and (version, "ready") in {(v["version"], v["state"]) for v in body["versions"]}:
                return
            time.sleep(POLL_S)
        raise DeployFailed(f"{model} version {version} runs, but the Router cannot reach it after {timeout_s:g} s")

    def gateway_address(self) -> str:
        """Where the gateway answers HTTP, seen from this machine."""
        options = self.details()["http_options"]
        host = "127.0.0.1" if options["host"] in ("0.0.0.0", "::") else options["host"]
        return f"http://{host}:{options['port']}"


def reason(application: dict[str, Any]) -> str:
    """The sentence that says most about why an application is not running."""
    messages = [deployment.get("message", "") for deployment in application.get("deployments", {}).values()]
    messages.append(application.get("message", ""))
    for message in messages:
        if "models.errors." in message:
            return last_line(message.partition("models.errors.")[2].partition("\n")[0])
    return next((last_line(message) for message in messages if message), application["status"].lower())


def last_line(text: str) -> str:
    """The last line that says anything: Ray puts the reason under its traceback, pydantic a link under that."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("For further information")]
    return lines[-1] if lines else ""


def get_json(url: str, timeout_s: float = 5) -> tuple[int, Any]:
    """GET a JSON document; (0, None) where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _parsed(error.read())
    except (OSError, ValueError):
        return 0, None


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
