"""What of this machine is this process's own: memory and cores, with the limits that a container sets (Linux)."""

import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")
_UNLIMITED = 1 << 60
"""What cgroup v1 calls no limit is a number beyond all memories."""


def available_memory(root: Path = _ROOT) -> int:
    """Bytes that can be had without anybody being pushed out; page cache counts as free, as the kernel counts it.

    The least of what the machine says and what each cgroup around this process (v2, or v1's `memory`) has left.
    """
    found = [_left(folder) for folder in _groups(root, "memory")]
    found.append(_machine(root))
    return max(min([each for each in found if each is not None], default=0), 0)


def available_cores(root: Path = _ROOT) -> int:
    """Cores that this process may run on, and no more than its CPU quota pays for; at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(paid for folder in _groups(root, "cpu") if (paid := _quota(folder)) is not None)]))


def _machine(root: Path) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the cgroups around this process, innermost first, v2 and v1.

    Inside a container the path that the kernel tells may be the host's; then only the mount's own root is there.
    """
    mount = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            base = mount
        elif controller in controllers.split(","):
            base = mount / controllers if (mount / controllers).is_dir() else mount / controller
        else:
            continue
        within = base / path.lstrip("/")
        while within != base and base in within.parents:
            if within.is_dir():
                yield within
            within = within.parent
        yield base


def _left(group: Path) -> int | None:
    """Bytes below the limit, what the kernel would give up for them included; None: no limit."""
    for limit_name, used_name, cache_name in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = _text(group / limit_name).strip(), _text(group / used_name).strip()
        if limit.isdigit() and used.isdigit() and int(limit) < _UNLIMITED:
            words = dict(line.split(maxsplit=1) for line in _text(group / "memory.stat").splitlines() if " " in line)
            return int(limit) - int(used) + int(words.get(cache_name, "0"))
    return None


def _quota(group: Path) -> int | None:
    """Whole cores; a part of one is no thread's worth."""
    words = _text(group / "cpu.max").split() or [
        _text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
    ]
    if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
        return max(1, int(words[0]) // int(words[1]))
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
