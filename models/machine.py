"""What this process may use of the machine: affinity and cgroup limits (containers, Kubernetes) included."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")


def cores(root: Path = ROOT) -> int:
    """Whole CPU cores, at least one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([allowed, *_cpu_quotas(root)])))


def available_bytes(root: Path = ROOT) -> int:
    """Memory that new processes can have without swapping."""
    return max(0, min([_free_bytes(root), *_cgroup_rooms(root)]))


def resident_bytes() -> int:
    """Memory that this process holds (RSS)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no /proc: the most it ever held, which macOS counts in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _free_bytes(root: Path) -> int:
    with suppress(OSError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Cores by cgroup v2 (`cpu.max`: quota and period, or `max`) and v1 (-1 is none)."""
    for directory in _cgroups(root, ""):
        quota, _, period = _text(directory / "cpu.max").partition(" ")
        if quota.isdecimal():
            yield int(quota) / int(period)
    for directory in _cgroups(root, "cpu"):
        quota, period = _text(directory / "cpu.cfs_quota_us"), _text(directory / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal():
            yield int(quota) / int(period)


def _cgroup_rooms(root: Path) -> Iterator[int]:
    """Bytes between what each memory cgroup holds and what it may; file cache that can be dropped is room."""
    kinds = (
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    for controller, most, now, cache in kinds:
        for directory in _cgroups(root, controller):
            limit, used = _text(directory / most), _text(directory / now)
            if limit.isdecimal() and used.isdecimal():
                stat = dict(line.split() for line in _text(directory / "memory.stat").splitlines())
                yield int(limit) - int(used) + int(stat.get(cache, 0))


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Directories of this process's cgroup and those above it; `controller` is empty for cgroup v2.

    Inside a container the path may be the host's, which is not there: then only the top is.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / controller
            inside = path.strip("/").split("/")
            yield from (top.joinpath(*inside[:depth]) for depth in range(len(inside) + 1))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
