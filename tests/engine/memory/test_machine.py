"""Parsing of /proc and of cgroups v2 and v1, as written by real kernels."""

from pathlib import Path

import pytest

from engine.memory import machine
from engine.memory.machine import available_cores, available_memory

GiB = 2**30


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {8 * 2**20} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_machines_own_word(tmp_path):
    assert available_memory(lay(tmp_path, {})) == 8 * GiB


def test_the_tightest_group_around_the_process_counts_and_its_page_cache_is_free(tmp_path):
    group = "sys/fs/cgroup/outer"
    files = {
        "proc/self/cgroup": "0::/outer/inner\n",
        f"{group}/memory.max": str(4 * GiB),
        f"{group}/memory.current": str(3 * GiB),
        f"{group}/memory.stat": f"anon 5\ninactive_file {GiB}\n",
        f"{group}/inner/memory.max": "max\n",
        f"{group}/inner/memory.current": str(GiB),
    }
    assert available_memory(lay(tmp_path, files)) == 2 * GiB


def test_a_container_sees_its_own_group_at_the_mounts_root(tmp_path):
    files = {
        "proc/self/cgroup": "0::/../../host/path\n",
        "sys/fs/cgroup/memory.max": str(GiB),
        "sys/fs/cgroup/memory.current": str(GiB // 2),
    }
    assert available_memory(lay(tmp_path, files)) == GiB // 2


@pytest.mark.parametrize(("limit", "left"), [(str(GiB), GiB - 7 + 3), ("9223372036854771712", 8 * GiB)])
def test_version_1(tmp_path, limit, left):
    files = {
        "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/x\n",
        "sys/fs/cgroup/memory/x/memory.limit_in_bytes": limit,
        "sys/fs/cgroup/memory/x/memory.usage_in_bytes": "7",
        "sys/fs/cgroup/memory/x/memory.stat": "total_inactive_file 3\n",
    }
    assert available_memory(lay(tmp_path, files)) == left


def test_a_group_over_its_limit_leaves_nothing(tmp_path):
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": "5",
        "sys/fs/cgroup/memory.current": "9",
    }
    assert available_memory(lay(tmp_path, files)) == 0


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "350000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "200000",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            8,
        ),
    ],
)
def test_cores_are_those_that_the_quota_pays_for(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)))
    assert available_cores(lay(tmp_path, files)) == cores


def test_this_machine_has_something():
    assert available_memory() > 0
    assert available_cores() >= 1
