"""What a process holds, and whether it has grown. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_GROWTH = 0.03
"""Of resident memory after the warm-up, at most."""
_PART = 5
"""Of the measures: the first after the warm-up, and the last, of which the medians are compared."""


@dataclass(frozen=True)
class Holding:
    """At one time."""

    resident_bytes: int
    descriptors: int
    threads: int


def holding(pid: int) -> Holding:
    """What the kernel says."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return Holding(
        int(status["VmRSS"].split()[0]) * 1024,
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        int(status["Threads"]),
    )


def growth(under_load: Sequence[Holding]) -> float:
    """Of resident memory, as a share, from the first fifth of these measures to the last."""
    part = max(len(under_load) // _PART, 1)
    first, last = _median(under_load[:part]), _median(under_load[-part:])
    return last / first - 1


def _median(measures: Sequence[Holding]) -> float:
    return sorted(each.resident_bytes for each in measures)[len(measures) // 2]


def complaints(before: Holding, after: Holding, under_load: Sequence[Holding]) -> list[str]:
    """What has grown. `before` and `after`: at rest, after the warm-up and at the end."""
    found = []
    if (share := growth(under_load)) > _GROWTH:
        found.append(f"resident memory grew by {share:.1%}")
    if after.descriptors > before.descriptors:
        found.append(f"{after.descriptors - before.descriptors} descriptors were left")
    if after.threads > before.threads:
        found.append(f"{after.threads - before.threads} threads were left")
    return found
