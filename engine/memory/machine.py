"""Memory and cores available to this process, including the limits of a container's cgroups (Linux)."""

import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")
_UNLIMITED = 1 << 60
"""cgroup v1 expresses "no limit" as a number above any physical memory."""


def available_memory(root: Path = _ROOT) -> int:
    """Bytes that can be allocated without swapping; reclaimable page cache counts as free.

    The minimum of MemAvailable and of what each enclosing cgroup (v2, or v1 `memory`) has left.
    """
    limits = [_left(folder) for folder in _groups(root, "memory")]
    limits.append(_machine(root))
    return max(min([limit for limit in limits if limit is not None], default=0), 0)


def available_cores(root: Path = _ROOT) -> int:
    """Cores that this process may run on, limited by its CPU quota rounded down; at least 1."""
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
    """Folders of the cgroups that enclose this process, innermost first, v2 and v1.

    In a container the path in /proc/self/cgroup may be the host's, which is not mounted; then only the root is yielded.
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
    """Bytes below the limit plus reclaimable inactive page cache; None: no limit."""
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
    """CPU quota in whole cores, rounded down, at least 1; None: no quota."""
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
