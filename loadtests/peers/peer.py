"""What the benchmark needs to know of a server that it compares with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.workloads import Workload


@dataclass(frozen=True, slots=True)
class Request:
    """One POST."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Command:
    """How a server is started: `environment` is added to this process's own."""

    arguments: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Start:
    """What a server is to serve, and where."""

    workload: Workload
    port: int
    cores: int
    directory: Path
    """For whatever files the server needs; empty at first."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server: how to start it for one workload, how to ask it, and how to read its answer.

    `requirements` is the directory of its requirements.lock, None for the project's own environment. `interrupt` is
    for a server that stops on Ctrl-C and not on SIGTERM. `expected` computes
    what it has to answer where that is not what the fp32 model answers; no probability may be off by more than
    `tolerance`.
    """

    name: str
    title: str
    command: Callable[[Start], Command]
    request: Callable[[Workload], Request]
    read: Callable[[Any], list[float]]
    requirements: Path | None = None
    interrupt: bool = False
    startup_timeout_s: float = 60.0
    tolerance: float = 1e-3
    expected: Callable[[Workload], list[float]] | None = None
