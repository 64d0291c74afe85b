import os
from pathlib import Path

import pytest

from models.machine import available_bytes, cores, resident_bytes

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
MIB = 1024**2


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_this_machine_has_cores_and_memory() -> None:
    assert 1 <= cores() <= (ALLOWED or 1)
    assert available_bytes() > MIB
    assert resident_bytes() > MIB


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, ALLOWED, id="no cgroup"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, ALLOWED, id="v2 no limit"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 1, id="v2 one and a half"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1, id="never none"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000",
                "sys/fs/cgroup/a/cpu.max": "100000 100000",
            },
            1,
            id="v2 limit above",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/host/path",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            1,
            id="v1 in a container",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            ALLOWED,
            id="v1 no limit",
        ),
    ],
)
def test_cores_are_what_the_cgroup_allows(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert cores(write(tmp_path, files)) == expected


MEMINFO = {"proc/meminfo": f"MemTotal: 9999999 kB\nMemAvailable:    {1000 * 1024} kB\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(MEMINFO, 1000, id="no cgroup"),
        pytest.param(
            MEMINFO
            | {
                "proc/self/cgroup": "0::/",
                "sys/fs/cgroup/memory.max": str(500 * MIB),
                "sys/fs/cgroup/memory.current": str(400 * MIB),
                "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {50 * MIB}\n",
            },
            150,
            id="v2 with file cache",
        ),
        pytest.param(
            MEMINFO
            | {
                "proc/self/cgroup": "3:memory:/x",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": str(100 * MIB),
                "sys/fs/cgroup/memory/memory.usage_in_bytes": str(150 * MIB),
            },
            0,
            id="v1 over its limit",
        ),
        pytest.param(
            MEMINFO | {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "max"}, 1000, id="v2 without a limit"
        ),
    ],
)
def test_memory_is_what_the_cgroup_allows(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert available_bytes(write(tmp_path, files)) == expected * MIB
