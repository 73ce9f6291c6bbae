"""What waits in a fair queue, by tier, tenant, and whether its work has begun; with the sums that decisions need."""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

import msgspec

from config.model.tenancy import TierSettings
from policies.errors import IntegrityError
from policies.queueing.first_token import FirstTokenTime
from policies.queueing.line_load import LineLoad
from policies.queueing.queue_item import QueueItem, TierUse

T = TypeVar("T", bound=QueueItem)

NEWCOMERS = 1
"""Index into `Tier.groups`; 0 is begun work."""
DEAD_ALLOWED = 64
"""Dead entries are removed when they outnumber the waiting ones by this many."""


class Entry(msgspec.Struct, Generic[T], eq=False):
    """One waiting request, or one that has left and is still in a heap."""

    item: T
    line: "Line[T]"
    work: int
    """Expected, in virtual tokens."""
    waits: bool = True


Heap = list[tuple[float, int, Entry[T]]]


class Line(msgspec.Struct, Generic[T], eq=False):
    """A tenant's begun work, or its newcomers."""

    of: "TenantQueue[T]"
    group: int
    """Index into `Tier.groups`."""
    count: int = 0
    work: int = 0
    heap: Heap[T] = []
    arrivals: Heap[T] = []
    """In the order of arrival."""
    latest: float = float("-inf")
    """Not before any deadline in it."""
    load: LineLoad = msgspec.field(default_factory=LineLoad)
    queued: bool = False
    """The tier's heap holds this line."""


class TenantQueue(msgspec.Struct, Generic[T], eq=False):
    """One tenant's requests of one tier, and its counter."""

    tenant: str
    tier: "Tier[T]"
    per_token: float
    """1 divided by the tenant's weight."""
    base: float = 0.0
    served: float = 0.0
    """Virtual tokens since the counter was `base`: whole, so that their sum is exact, in one charge or in many."""
    use: TierUse = msgspec.field(default_factory=TierUse)
    lines: "tuple[Line[T], ...]" = ()

    @property
    def counter(self) -> float:
        return self.base + self.served * self.per_token

    def set_counter(self, counter: float, per_token: float) -> None:
        self.base, self.served, self.per_token = counter, 0.0, per_token


Group = list[tuple[float, str, Line[T]]]


class Tier(msgspec.Struct, Generic[T], eq=False):
    """All tenants of one tier."""

    name: str
    settings: TierSettings
    use: TierUse
    work: int = 0
    groups: tuple[Group[T], Group[T]] = msgspec.field(default_factory=lambda: ([], []))
    """Heaps of begun work and of newcomers: the lines that wait, by counter."""
    last_counter: float = 0.0
    """Counter of the tenant queue that emptied last."""
    taken: float = 0.0
    """Work of the last jobs taken."""
    first: FirstTokenTime = msgspec.field(default_factory=FirstTokenTime)
    """Of its jobs: inside an engine, too, higher priorities are before others."""


def use_of(items: Iterable[QueueItem]) -> TierUse:
    """Their sums."""
    use = TierUse()
    for item in items:
        use.add(item)
    return use


def without_most_dead(heap: Heap[T], living: int) -> Heap[T]:
    """The heap without its dead entries, if they outnumber the living: O(1) amortized."""
    if len(heap) <= 2 * living + DEAD_ALLOWED:
        return heap
    kept = [held for held in heap if held[2].waits]
    heapq.heapify(kept)
    return kept


def forget(tier: Tier[T], tenant_queue: TenantQueue[T]) -> None:
    """Remove it from the tier's heaps, where it may be although it is empty."""
    for group in tier.groups:
        group[:] = [held for held in group if held[2].of is not tenant_queue]
        heapq.heapify(group)


def _arrived_last(line: Line[T]) -> Iterator[Entry[T]]:
    """Those that wait, the newest first."""
    arrivals = line.arrivals
    while arrivals and not arrivals[-1][2].waits:
        arrivals.pop()
    return (entry for _, _, entry in reversed(arrivals) if entry.waits)


def due_before(line: Line[T], deadline: float) -> tuple[int, int]:
    """How many of the line are served before what joins it with this deadline, and their work."""
    if not line.count or deadline >= line.latest:
        return line.count, line.work
    works = [entry.work for due, _, entry in line.heap if entry.waits and due <= deadline]
    return len(works), sum(works)


def newest(line: Line[T]) -> Entry[T] | None:
    """The one that came last of those that wait."""
    return next(_arrived_last(line), None)


def share_of(tenant_queue: TenantQueue[T], use: TierUse) -> float:
    """The share of its tier's places that this is, by weight: of the bound that it uses most.

    Dominant resource fairness: Ghodsi et al., NSDI 2011.
    """
    queue = tenant_queue.tier.settings.queue
    fill = max(use.requests / queue.requests, use.tokens / queue.tokens, use.bytes / queue.bytes)
    return fill * tenant_queue.per_token


def newest_of_largest(
    tier: Tier[T], left: Mapping[str, TierUse], besides: TenantQueue[T] | None = None
) -> Entry[T] | None:
    """The newest newcomer of the tenant with the largest share in the tier."""
    found, largest = None, -1.0
    for _, _, line in tier.groups[NEWCOMERS]:
        of = line.of
        use = left.get(of.tenant, of.use)
        lost = of.use.requests - use.requests
        share = share_of(of, use)
        if of is besides or line.count <= lost or share <= largest:
            continue
        arrived = _arrived_last(line)
        for _ in range(lost):
            next(arrived)
        found, largest = next(arrived), share
    return found


def check_line(line: Line[T]) -> None:
    """Raise `IntegrityError` if its sums are wrong, or dead entries pile up."""
    tenant = line.of.tenant
    waiting = [entry for _, _, entry in line.heap if entry.waits]
    if line.count != len(waiting) or line.work != sum([entry.work for entry in waiting]):
        raise IntegrityError(f"the queue of tenant '{tenant}' has lost count")
    if {id(entry) for entry in waiting} != {id(entry) for _, _, entry in line.arrivals if entry.waits}:
        raise IntegrityError(f"the arrivals of tenant '{tenant}' differ from what waits")
    if line.count and not line.queued:
        raise IntegrityError(f"the queue of tenant '{tenant}' waits but is not in its tier's heap")
    if max(len(line.heap), len(line.arrivals)) > 2 * line.count + DEAD_ALLOWED:
        raise IntegrityError(f"dead entries pile up in the queue of tenant '{tenant}'")
