"""The running service: Ray Serve's REST API on the dashboard, and the gateway's own HTTP."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from models.errors import DeployFailed, InvalidRequest, ServiceError, ServiceNotRunning
from models.policy import ModelPolicy

DASHBOARD = "http://127.0.0.1:8265"
"""Where Ray puts its dashboard unless told otherwise."""

POLL_S = 0.5
PATIENCE_S = 5.0
"""While the gateway does not do as told for so long, Ray Serve is not asked why."""

TINY = 1e-6
_FAILED = ("DEPLOY_FAILED", "UNHEALTHY")

Report = Callable[[str], None]


class Service:
    """A Ray Serve instance, reached through its dashboard with Ray's own client, which knows the token."""

    def __init__(self, address: str) -> None:
        if "://" not in address:
            raise InvalidRequest(f"--address {address!r}: expected http://HOST:PORT")
        self._gateway_address: str | None = None
        try:
            self._client = _told(import_client(), address)
        except ServiceError as error:
            if isinstance(error.__cause__, ConnectionError):
                raise ServiceNotRunning(f"no Ray dashboard answers at {address}; `make serve` starts one") from None
            raise

    def apply(self, config: dict[str, Any]) -> None:
        """Declare what runs. Applications that stay the same are not touched. Raises ServiceError."""
        _told(self._client.deploy_applications, config)

    def details(self) -> dict[str, Any]:
        """What Ray Serve says of itself. Raises ServiceError.

        It costs controller and dashboard some CPU that they take from answers: who waits asks the gateway first.
        """
        details: dict[str, Any] = _told(self._client.get_serve_details)
        if details.get("http_options"):
            self._gateway_address = _address(details)
        return details

    def replicas(self, application: str, deployment: str) -> dict[str, int]:
        """Process ids of a deployment's replicas by replica id, of those that have one yet. Raises ServiceError."""
        found = self.details()["applications"][application]["deployments"][deployment]["replicas"]
        return {replica["replica_id"]: replica["pid"] for replica in found if replica.get("pid")}

    def failures(self) -> dict[str, str]:
        """Why applications did not start or are not well, by name. Raises ServiceError."""
        applications = self.details()["applications"]
        return {name: reason(each) for name, each in applications.items() if each["status"] in _FAILED}

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

    def wait_until_obeyed(
        self,
        model: str,
        policy: ModelPolicy,
        answering: Collection[int],
        certain: Callable[[], Collection[int]],
        timeout_s: float,
    ) -> None:
        """Wait until a Router says that a policy holds (see `disobeyed`), and the referee of all others, too.

        Raises DeployFailed, at once where the gateway fails.
        """
        began = time.monotonic()
        while True:
            status, body = get_json(f"{self.gateway_address}/models/{model}")
            why = f"it answers {status}" if status != 200 else disobeyed(policy, body["versions"], answering, certain())
            waited_s = time.monotonic() - began
            if why is None or waited_s > PATIENCE_S:
                gateway = self.details()["applications"].get("gateway")
                why = self._why_not_running(gateway) or why or self._others(model, policy, gateway)
            if why is None:
                return
            if waited_s > timeout_s:
                raise DeployFailed(f"the Router does not serve {model} as told after {timeout_s:g} s: {why}")
            time.sleep(POLL_S)

    def _why_not_running(self, gateway: dict[str, Any] | None) -> str | None:
        """Why it does not run as it was told last; None where it does. Raises DeployFailed where it never will."""
        if gateway is None:
            return "the gateway is to be noticed by Ray Serve"
        if gateway["status"] in _FAILED:
            raise DeployFailed(f"gateway did not start: {reason(gateway)}")
        if gateway["status"] != "RUNNING":  # it may have no deployments yet
            return reason(gateway)
        if refused := (get_json(f"{self.gateway_address}/health")[1] or {}).get("refused"):
            raise DeployFailed(f"the Router refused what it was told: {refused}")
        return None

    def _others(self, model: str, policy: ModelPolicy, gateway: Mapping[str, Any]) -> str | None:
        """Why not all Routers of a running gateway obey yet; None where they do, and where nobody can tell."""
        routers = len(gateway["deployments"]["Router"]["replicas"])
        rollout = self.rollout(model) if routers > 1 else None
        return None if rollout is None else disagreeing(policy, rollout, routers)

    def rollout(self, model: str) -> dict[str, Any] | None:
        """What the gateway measured of each variant; None where it does not tell."""
        status, body = get_json(f"{self.gateway_address}/models/{model}/rollout")
        return body if status == 200 and isinstance(body, dict) else None

    @property
    def gateway_address(self) -> str:
        """Where the gateway answers HTTP, seen from this machine; it stays as long as Ray Serve runs."""
        return self._gateway_address or _address(self.details())


def configurations_of(applications: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The configuration of each application as it was applied last, of what Ray Serve says of them."""
    return {name: application.get("deployed_app_config") or {} for name, application in applications.items()}


def _address(details: Mapping[str, Any]) -> str:
    options = details["http_options"]
    host = "127.0.0.1" if options["host"] in ("0.0.0.0", "::") else options["host"]
    return f"http://{host}:{options['port']}"


def import_client() -> Any:
    """Ray's client of its REST API, a class; importing it takes a second."""
    from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

    return ServeSubmissionClient


def disobeyed(
    policy: ModelPolicy, versions: Sequence[Mapping[str, Any]], answering: Collection[int], certain: Collection[int]
) -> str | None:
    """Why what a Router says of its versions is not the policy yet; None where it is.

    A challenger's share may be below its weight, on a ramp or stopped by the referee, unless it is `certain`.
    """
    said = {each["version"]: each for each in versions}
    if set(said) != set(policy.versions):
        return f"it serves versions {sorted(said)}, not {sorted(policy.versions)}"
    for version, each in said.items():
        if each["variant"] != policy.variant(version):
            return f"version {version} is its {each['variant']}, not its {policy.variant(version)}"
        if version in answering and each["state"] != "ready":
            return f"it cannot reach version {version}"
        weight, share = policy.challengers.get(version), each["share"]
        if weight is not None and (share > weight + TINY or (version in certain and share < weight - TINY)):
            return f"version {version} has a share of {share:g}, not {weight:g}"
    return None


def disagreeing(policy: ModelPolicy, rollout: Mapping[str, Any], routers: int) -> str | None:
    """Why what the referee heard of so many Routers is not the policy yet; None where it is, or where it heard nothing.

    Routers report as soon as a model has two versions.
    """
    if not rollout["routers"]:
        return None
    heard = {each["version"]: (each["variant"], each["declared"]) for each in rollout["variants"]}
    if heard != policy.parts:
        return "the referee has not heard of it"
    if rollout["agreeing"] < routers:
        return f"{rollout['agreeing']} of {routers} Routers obey"
    return None


def _told(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call Ray's client; what it raises becomes one sentence. Raises ServiceError."""
    from ray.exceptions import AuthenticationError

    try:
        return call(*arguments)
    except AuthenticationError as error:  # its first line says what is wrong; the rest is advice for every case
        raise ServiceError(f"the Ray dashboard: {str(error).splitlines()[0]}") from error
    except (RuntimeError, OSError) as error:  # requests' errors are OSErrors
        raise ServiceError(f"the Ray dashboard: {last_line(str(error))}") from error


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
