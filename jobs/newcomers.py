"""`tiltyard serve`: versions that appear in the store are served as the policies say, without anybody typing it."""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from jobs.author import Author
from jobs.change import Change, alone, carry_out, running_service
from jobs.policy_entry import Role
from jobs.rollout import plan_challenge
from jobs.serve_config import ServeConfig
from jobs.version_policy import plan_live, store_of
from jobs.watch import Watch
from models.errors import Busy, TiltyardError
from models.rollout import newest_decision
from models.store import Store

PERIOD_S = 2.0
TIMEOUT_S = 180.0

APPEARED = Author("watch", "it appeared in the store")
STARTED = Author("serve", "the service started")

Report = Callable[[str], None]

logger = logging.getLogger(__name__)


class Newcomers:
    """Looks at the stores of the models that a serve_config.yaml names, every two seconds, on a thread of its own.

    Where the file names the champion, a new version joins as the model's `newcomers` say; else its `version_policy`
    decides, and the newest becomes champion.
    """

    def __init__(self, path: Path, dashboard: str, report: Report) -> None:
        self._path = path
        self._dashboard = dashboard
        self._report = report
        self._watches: dict[Path, Watch] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; what is being loaded is not waited for."""
        self._is_over.set()

    def look(self) -> list[tuple[str, int]]:
        """Let every newcomer in; those that are served now."""
        config = ServeConfig.read(self._path)
        is_open = config.declared.open_models
        by_store: dict[Path, tuple[Store, set[str]]] = {}
        for model in config.declared.models:
            store = store_of(config, model)
            by_store.setdefault(store.root, (store, set()))[1].add(model)
        joined = []
        for root, (store, models) in by_store.items():
            watch = self._watches.setdefault(root, Watch(store))
            served = {(model, version) for model in models for version in config.running.get(model, ())}
            found = defaultdict(list)
            was_here = partial(_was_taken_out, config)
            for model, version in watch.newcomers(served, models & set(is_open), was_here):
                found[model].append(version)
            for model, versions in found.items():
                join = self._follow if model in is_open else self._challenge
                joined += [
                    (model, version) for version in sorted(versions, reverse=True) if join(watch, model, version)
                ]
        return joined

    def catch_up(self) -> None:
        """Serve at once what version_policies choose of all that is published."""
        config = ServeConfig.read(self._path)
        for model in config.declared.open_models:
            store = store_of(config, model)
            unserved = set(store.versions(model)) - config.running.get(model, set())
            for version in sorted(unserved, reverse=True):
                self._follow(Watch(store), model, version)

    def _follow(self, watch: Watch, model: str, version: int) -> bool:
        """Serve a version where the version_policy chooses it among those that run."""

        def plan() -> Change:
            config = ServeConfig.read(self._path)
            versions = {version, *config.running.get(model, ())}
            return plan_live(self._path, store_of(config, model), model, versions, APPEARED)

        change = self._carried_out(watch, model, version, plan)
        if change is None or not change.diff:
            return False
        is_champion = change.after.model(model).champion == version
        gone = "".join(f"; version {each} is unloaded" for each in change.unloaded)
        self._report(f"{model} version {version} is {'champion' if is_champion else 'live'}{gone}")
        return True

    def _challenge(self, watch: Watch, model: str, version: int) -> bool:
        """Serve a version beside the champion."""
        joining = ServeConfig.read(self._path).model(model).newcomers
        role: Role = "shadows" if joining.variant == "shadow" else "challengers"

        def plan() -> Change:
            return plan_challenge(self._path, model, version, APPEARED, role=role, share=joining.share)

        if self._carried_out(watch, model, version, plan) is None:
            return False
        self._report(f"{model} version {version} joins the {role} with {joining.share:g}")
        return True

    def _carried_out(self, watch: Watch, model: str, version: int, plan: Callable[[], Change]) -> Change | None:
        """Make a change true, and tell of it; None where that failed."""
        try:
            with alone(self._path):
                change = plan()
                if change.diff:
                    self._report(f"{model} version {version} is new in the store: it is loaded")
                    carry_out(change, running_service(self._dashboard), TIMEOUT_S, lambda _: None)
                return change
        except Busy as error:
            self._report(f"{model} version {version} has to wait: {error.message}")
            watch.again(model, version)
        except TiltyardError as error:
            self._report(f"{model} version {version} does not join, and nothing has changed: {error.message}")
        return None

    def _run(self) -> None:
        wrong = None
        while not self._is_over.wait(PERIOD_S):
            try:
                self.look()
                wrong = None
            except TiltyardError as error:
                if error.message != wrong:  # told once, not every two seconds
                    self._report(f"the store cannot be watched: {error.message}")
                wrong = error.message
            except Exception:
                logger.exception("the store cannot be watched")


def _was_taken_out(config: ServeConfig, model: str, version: int) -> bool:
    """Whether the newest decision about a version was to stop or to unload it; a version_policy takes nothing out."""
    if config.declared.models[model].champion is None:
        return False
    newest = newest_decision(config.history(model).events(), version)
    return newest is not None and newest.action in ("retire", "undeploy", "rollback")


def add_missing(path: Path) -> list[Change]:
    """Write into a file that nobody serves yet what version_policies choose of models without any application.

    Raises VersionNotFound where nothing is published, InvalidConfig, Busy.
    """
    made = []
    with alone(path):
        config = ServeConfig.read(path)
        for model in config.declared.open_models:
            if not config.running.get(model):
                store = store_of(config, model)
                change = plan_live(path, store, model, store.versions(model), STARTED)
                carry_out(change, None, TIMEOUT_S, lambda _: None)
                made.append(change)
    return made
