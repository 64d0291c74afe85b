"""`tiltyard serve --watch`: a version that appears in the store is challenged or shadows, without anybody typing it."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from jobs.author import Author
from jobs.change import alone, carry_out, running_service
from jobs.policy_entry import Role
from jobs.rollout import plan_challenge
from jobs.serve_config import ServeConfig
from jobs.watch import Watch
from models.errors import Busy, TiltyardError

PERIOD_S = 2.0
TIMEOUT_S = 180.0

Report = Callable[[str], None]

logger = logging.getLogger(__name__)


class Newcomers:
    """Looks at the stores that a serve_config.yaml names, every two seconds, on a thread of its own."""

    def __init__(self, path: Path, dashboard: str, role: Role, share: float, report: Report) -> None:
        self._path = path
        self._dashboard = dashboard
        self._role = role
        self._share = share
        self._report = report
        self._watches: dict[Path, Watch] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; what is being challenged is not waited for."""
        self._is_over.set()

    def look(self) -> list[tuple[str, int]]:
        """Challenge every newcomer; those that are served now."""
        config = ServeConfig.read(self._path)
        served = {(model, version) for model, policy in config.policy.models.items() for version in policy.versions}
        stores = {store.root: store for store in (config.store(model) for model, _ in served)}
        joined = []
        for root, store in stores.items():
            watch = self._watches.setdefault(root, Watch(store))
            mine = {key for key in served if config.store(key[0]).root == root}
            joined += [key for key in watch.newcomers(mine) if self._challenge(watch, *key)]
        return joined

    def _challenge(self, watch: Watch, model: str, version: int) -> bool:
        self._report(f"{model} version {version} is new in the store: it is loaded")
        author = Author("watch", "it appeared in the store")
        try:
            with alone(self._path):
                change = plan_challenge(self._path, model, version, author, role=self._role, share=self._share)
                carry_out(change, running_service(self._dashboard), TIMEOUT_S, lambda _: None)
        except Busy as error:
            self._report(f"{model} version {version} has to wait: {error.message}")
            watch.again(model, version)
            return False
        except TiltyardError as error:
            self._report(f"{model} version {version} does not join, and nothing has changed: {error.message}")
            return False
        self._report(f"{model} version {version} joins the {self._role} with {self._share:g}")
        return True

    def _run(self) -> None:
        while not self._is_over.wait(PERIOD_S):
            try:
                self.look()
            except TiltyardError as error:
                self._report(f"the store cannot be watched: {error.message}")
            except Exception:
                logger.exception("the store cannot be watched")
