"""Whoever changes the rollout while a load test runs, and who goes before whom on cores that all of them share."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from deployments.precedence import SLICE_VARIABLE, give_way, place
from jobs.author import Author
from jobs.change import Change, carry_out
from jobs.rollout import plan_challenge, plan_retire
from jobs.serve import FAST_INGRESS
from jobs.service import Service, import_client

AUTHOR = Author("load test", "to see whether anybody notices")
CHANGE_TIMEOUT_S = 120.0
GENERATOR_NICENESS = -12
OPERATOR_NICENESS = 19


@dataclass(frozen=True, slots=True)
class Operator:
    """Makes changes to one model as the commands do, in a process of its own: editing YAML would hold up requests."""

    path: Path
    model: str
    dashboard: str
    process: ProcessPoolExecutor

    def do(self, plan: Callable[..., Change], *arguments: Any, **options: Any) -> None:
        """Carry a plan out, and wait until it is true."""
        self.process.submit(_carried_out, self.dashboard, plan, self.path, self.model, arguments, options).result()

    def challenge(self, version: int, share: float, role: str = "challengers") -> None:
        """Give a version a share of the traffic, or of the copies."""
        self.do(plan_challenge, version, AUTHOR, role=role, share=share)

    def retire(self, version: int) -> None:
        """Take a version out."""
        self.do(plan_retire, version, AUTHOR)


@contextmanager
def operating(path: Path, model: str, dashboard: str) -> Iterator[Operator]:
    """An operator who goes after whatever answers or asks."""
    with ProcessPoolExecutor(1, get_context("spawn"), _give_way) as process:
        process.submit(_import).result()  # it takes seconds, which none of the requests to come shall feel
        yield Operator(path, model, dashboard, process)


def stand_for_other_machines() -> None:
    """Go before the service, where that is allowed: clients have cores of their own, but not here.

    The p99 under changes was 48 ms with it and 86 without (loadtests/RESULTS.md): half of it was the generator's.
    Linux shares a machine out between sessions first (sched_autogroup), and looks at niceness within each of them. The
    generator also asks for the slices that replicas ask for, so that it is woken as soon as they are.
    """
    _share(GENERATOR_NICENESS)
    place(None, int(FAST_INGRESS[SLICE_VARIABLE]))


def _import() -> None:
    import_client()


def _give_way() -> None:
    os.setsid()
    _share(OPERATOR_NICENESS)
    give_way(0)


def _share(niceness: int) -> None:
    with suppress(OSError):  # not Linux, no autogroups, not allowed
        Path("/proc/self/autogroup").write_text(str(niceness))


def _carried_out(
    dashboard: str,
    plan: Callable[..., Change],
    path: Path,
    model: str,
    arguments: Sequence[Any],
    options: Mapping[str, Any],
) -> None:
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    carry_out(plan(path, model, *arguments, **options), Service(dashboard), CHANGE_TIMEOUT_S, lambda _: None)
