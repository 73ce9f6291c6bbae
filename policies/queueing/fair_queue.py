"""The queue of jobs in front of an engine: tiers by priority, tenants by fair share, requests by deadline.

- Between tiers: a higher priority is served first, always. Starvation is bounded by time, not by shares: a job that has
  waited longer than its tier's `queue.wait`, or past its own deadline, leaves the queue as expired and is refused.
- Between the tenants of a tier: the virtual token counter of "Fairness in Serving Large Language Models" (Sheng et al.,
  OSDI 2024, section 4): each tenant has a counter of the tokens served to it, divided by its weight; the smallest
  counter is next. The counter of a tenant that was idle is lifted to the smallest counter among the waiting tenants (or
  to that of the last one that left), so that idling earns no credit. Prompt tokens count when a request is taken,
  output tokens as they are made (`charge`), twice as much, as decode costs more.
- Within a tenant: the earliest deadline first, then the order of arrival.
- No request overtakes the next one because it happens to fit: a large request would starve behind small ones.

Offers and takes cost O(log n) with small constants: heaps with lazy deletion. The drain rate is measured
while the queue is blocked: from the first request that did not fit until no request waits.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, Literal, TypeVar

import msgspec

from config.model.tenancy import TenantSettings, TierSettings
from policies.errors import IntegrityError, UnknownTenant
from policies.queueing.drain_rate import DrainRate

PROMPT_TOKEN_COST = 1.0
OUTPUT_TOKEN_COST = 2.0

FullReason = Literal["queue_requests_full", "queue_tokens_full", "queue_bytes_full", "saturated", "larger_than_queue"]


class QueueItem(msgspec.Struct, frozen=True, kw_only=True):
    """One waiting request. Subclass it to carry more."""

    job_id: str | int
    """Unique among the waiting requests."""
    tenant: str
    prompt_tokens: int
    tokens: int
    """Prompt plus the maximum output: the queue's bound on tokens counts these."""
    bytes: int = 0
    deadline: float = float("inf")
    """When the first content is due; after that a prefill is useless."""
    wait_s: float | None = None
    """The longest wait in this queue; None: the tier's `queue.wait`."""
    goes_on: bool = False
    """Its client has received part of the answer: only its own deadline ends its wait."""


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The request was enqueued."""

    expires_at: float
    expected_wait_s: float | None
    """At the measured drain rate; None while it is unknown."""


class QueueFull(msgspec.Struct, frozen=True, gc=False):
    """The request was not enqueued."""

    reason: FullReason
    retry_after_s: float | None
    """From the measured drain rate; None: it never fits."""
    limit: float
    used: float

    def __str__(self) -> str:
        if self.reason == "larger_than_queue":
            return (
                f"The request is too large for its tier's queue: {self.used:.0f} of at most {self.limit:.0f}. "
                "Shorten the prompt or lower max_tokens."
            )
        if self.reason == "saturated":
            return (
                f"The queue is {self.used:.0%} full, and this tier is refused from {self.limit:.0%} on; "
                "try again later."
            )
        what = self.reason.split("_")[1]  # requests, tokens or bytes
        return f"The queue of this tier is full: {self.used:.0f} of {self.limit:.0f} {what}; try again later."


class TierUse(msgspec.Struct):
    """The waiting requests of one tier, or of all."""

    requests: int = 0
    tokens: int = 0
    bytes: int = 0

    def add(self, item: QueueItem) -> None:
        self.requests += 1
        self.tokens += item.tokens
        self.bytes += item.bytes

    def remove(self, item: QueueItem) -> None:
        self.requests -= 1
        self.tokens -= item.tokens
        self.bytes -= item.bytes


class FairQueueStatistics(msgspec.Struct):
    """The queue's figures."""

    tiers: Mapping[str, TierUse] = {}
    counters: Mapping[str, float] = {}
    """Virtual tokens by tenant."""
    requests: int = 0
    tokens: int = 0
    bytes: int = 0
    offered_total: int = 0
    taken_total: int = 0
    removed_total: int = 0
    expired_total: int = 0
    refused_total: dict[FullReason, int] = {}


T = TypeVar("T", bound=QueueItem)


class _Entry(msgspec.Struct, Generic[T], eq=False):
    item: T
    tenant_queue: "_TenantQueue[T]"
    waits: bool = True


class _TenantQueue(msgspec.Struct, Generic[T], eq=False):
    tenant: str
    tier: "_Tier[T]"
    per_token: float
    """1 divided by the tenant's weight."""
    counter: float = 0.0
    count: int = 0
    heap: list[tuple[float, int, _Entry[T]]] = []
    queued: bool = False
    """The tier's heap holds this tenant queue."""


class _Tier(msgspec.Struct, Generic[T], eq=False):
    name: str
    settings: TierSettings
    use: TierUse
    tenant_queues: list[tuple[float, str, _TenantQueue[T]]] = []
    last_counter: float = 0.0
    """Counter of the tenant queue that emptied last."""


class FairQueue(Generic[T]):
    """`now` never runs backwards; the tenants are those of `config.tenants.known_tenants`."""

    def __init__(self, tiers: Mapping[str, TierSettings], tenants: Mapping[str, TenantSettings]) -> None:
        self._tiers: dict[str, _Tier[T]] = {}
        self._tenant_queues: dict[str, _TenantQueue[T]] = {}
        self._entries: dict[str | int, _Entry[T]] = {}
        self._expiries: list[tuple[float, int, _Entry[T]]] = []
        self._expired: list[T] = []
        self._order = 0
        self._use = TierUse()
        self._rate = DrainRate()
        self._now = 0.0
        """Of the last call with a time."""
        self._totals = FairQueueStatistics()
        self.apply_settings(tiers, tenants)

    def apply_settings(self, tiers: Mapping[str, TierSettings], tenants: Mapping[str, TenantSettings]) -> None:
        """Replace the settings. Waiting requests keep their place and their expiry.

        `tenants` must include, with its last settings, every tenant that still has jobs; a tier that the settings no
        longer have is kept as long as it has a tenant.
        """
        for name, tier_settings in tiers.items():
            self._tiers.setdefault(name, _Tier(name, tier_settings, TierUse())).settings = tier_settings
        for name, settings in tenants.items():
            tenant_queue = self._tenant_queues.get(name)
            if tenant_queue is None:
                self._tenant_queues[name] = _TenantQueue(name, self._tiers[settings.tier], 1.0 / settings.weight)
                continue
            tenant_queue.per_token = 1.0 / settings.weight
            if tenant_queue.tier.name != settings.tier:
                self._move(tenant_queue, self._tiers[settings.tier])
        for name, tenant_queue in list(self._tenant_queues.items()):
            if name not in tenants and not tenant_queue.count:
                del self._tenant_queues[name]
                _forget(tenant_queue.tier, tenant_queue)
        used = {tenant_queue.tier.name for tenant_queue in self._tenant_queues.values()}
        self._tiers = {name: tier for name, tier in self._tiers.items() if name in tiers or name in used}
        self._by_priority = sorted(self._tiers.values(), key=lambda tier: -tier.settings.priority)
        queues = [tier.queue for tier in tiers.values()]
        self._bounds = [sum(getattr(queue, word) for queue in queues) for word in ("requests", "tokens", "bytes")]

    def __len__(self) -> int:
        return len(self._entries)

    def offer(self, item: T, now: float) -> Accepted | QueueFull:
        """Enqueue, unless a bound is reached. Raises UnknownTenant; ValueError for an id that waits already."""
        tenant_queue = self._tenant_queues.get(item.tenant)
        if tenant_queue is None:
            raise UnknownTenant(item.tenant)
        if item.job_id in self._entries:
            raise ValueError(f"{item.job_id!r} waits already")
        tier = tenant_queue.tier
        # Expired requests take up no room, even if `expire` has not returned them yet.
        self._sweep(now)
        full = self._full(tier, item, now)
        if full is not None:
            refused = self._totals.refused_total
            refused[full.reason] = refused.get(full.reason, 0) + 1
            return full
        wait_s = tier.settings.queue.wait if item.wait_s is None else item.wait_s
        expires_at = item.deadline if item.goes_on else min(item.deadline, now + wait_s)
        entry = _Entry(item, tenant_queue)
        self._order += 1
        if not tenant_queue.count:
            self._lift(tenant_queue)
        heapq.heappush(tenant_queue.heap, (item.deadline, self._order, entry))
        heapq.heappush(self._expiries, (expires_at, self._order, entry))
        tenant_queue.count += 1
        self._entries[item.job_id] = entry
        tier.use.add(item)
        self._use.add(item)
        self._totals.offered_total += 1
        if not tenant_queue.queued:
            tenant_queue.queued = True
            heapq.heappush(tier.tenant_queues, (tenant_queue.counter, tenant_queue.tenant, tenant_queue))
        return Accepted(expires_at, self._rate.wait_s(len(self._entries), now))

    def take(self, now: float, fits: Callable[[T], bool] | None = None) -> T | None:
        """Dequeue the next request; None if none waits or the next one does not fit yet."""
        self._sweep(now)
        for tier in self._by_priority:
            if not tier.use.requests:
                continue
            tenant_queue = self._next_tenant_queue(tier)
            heap = tenant_queue.heap
            while not heap[0][2].waits:
                heapq.heappop(heap)
            entry = heap[0][2]
            if fits is not None and not fits(entry.item):
                self._rate.resume(now)
                return None
            heapq.heappop(heap)
            tenant_queue.counter += entry.item.prompt_tokens * PROMPT_TOKEN_COST * tenant_queue.per_token
            self._rate.served(1, now)
            self._leave(entry)
            self._totals.taken_total += 1
            return entry.item
        return None

    def charge(self, tenant: str, tokens: int) -> None:
        """Count output tokens of a tenant; without effect if the tenant was removed."""
        tenant_queue = self._tenant_queues.get(tenant)
        if tenant_queue is not None:
            tenant_queue.counter += tokens * OUTPUT_TOKEN_COST * tenant_queue.per_token

    def remove(self, job_id: str | int) -> T | None:
        """Dequeue a request whose client left; None if it does not wait."""
        entry = self._entries.get(job_id)
        if entry is None:
            return None
        self._leave(entry)
        self._totals.removed_total += 1
        return entry.item

    def __iter__(self) -> Iterator[T]:
        """Those that wait, in no order."""
        return iter([entry.item for entry in self._entries.values()])

    def clear(self) -> list[T]:
        """Dequeue all requests (the engine is down), without charging tenants or measuring the rate."""
        waiting = [entry.item for entry in self._entries.values()]
        for item in waiting:
            self.remove(item.job_id)
        return waiting

    def expire(self, now: float) -> list[T]:
        """The requests that have expired, each exactly once; call it at `next_expiry`."""
        self._sweep(now)
        expired, self._expired = self._expired, []
        return expired

    def next_expiry(self) -> float | None:
        """The earliest time at which `expire` returns a request."""
        if self._expired:
            return float("-inf")
        while self._expiries and not self._expiries[0][2].waits:
            heapq.heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else None

    def waiting(self, tier: str) -> int:
        known = self._tiers.get(tier)
        return known.use.requests if known is not None else 0

    def expected_wait_s(self, now: float) -> float:
        """How long a request that is enqueued last would wait, at the measured rate; 0 while unknown."""
        return (self._rate.wait_s(len(self._entries), now) or 0.0) if self._entries else 0.0

    def statistics(self) -> FairQueueStatistics:
        return msgspec.structs.replace(
            self._totals,
            tiers={name: msgspec.structs.replace(tier.use) for name, tier in self._tiers.items()},
            counters={name: tenant_queue.counter for name, tenant_queue in self._tenant_queues.items()},
            requests=len(self._entries),
            tokens=self._use.tokens,
            bytes=self._use.bytes,
            refused_total=dict(self._totals.refused_total),
        )

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if the sums are wrong, a request was lost, or dead entries pile up."""
        entries = self._entries.values()
        if self._use != _use_of(entry.item for entry in entries):
            raise IntegrityError("the line's sums differ from its entries")
        for tier in self._tiers.values():
            if tier.use != _use_of(entry.item for entry in entries if entry.tenant_queue.tier is tier):
                raise IntegrityError(f"the sums of tier '{tier.name}' differ from its entries")
        for tenant_queue in self._tenant_queues.values():
            if tenant_queue.count != sum(entry[2].waits for entry in tenant_queue.heap):
                raise IntegrityError(f"the queue of tenant '{tenant_queue.tenant}' has lost count")
            if tenant_queue.count and not tenant_queue.queued:
                raise IntegrityError(f"the queue of tenant '{tenant_queue.tenant}' waits but is not in its tier's heap")
            if len(tenant_queue.heap) > 2 * tenant_queue.count + _DEAD_ALLOWED:
                raise IntegrityError(f"dead entries pile up in the queue of tenant '{tenant_queue.tenant}'")
        if len(self._expiries) > 2 * len(self._entries) + _DEAD_ALLOWED:
            raise IntegrityError("dead entries pile up among the expiries")
        totals = self._totals
        ended = totals.taken_total + totals.removed_total + totals.expired_total
        if totals.offered_total != ended + len(self._entries):
            raise IntegrityError("something was lost or counted twice")

    def _full(self, tier: _Tier[T], item: T, now: float) -> QueueFull | None:
        queue, use, waiting = tier.settings.queue, tier.use, len(self._entries)
        if item.tokens > queue.tokens:
            return QueueFull("larger_than_queue", None, queue.tokens, item.tokens)
        if item.bytes > queue.bytes:
            return QueueFull("larger_than_queue", None, queue.bytes, item.bytes)
        if use.requests >= queue.requests:
            return QueueFull("queue_requests_full", self._rate.retry_after_s(1, now), queue.requests, use.requests)
        if (excess := use.tokens + item.tokens - queue.tokens) > 0:
            after_s = self._rate.retry_after_s(max(excess * waiting / max(self._use.tokens, waiting), 1.0), now)
            return QueueFull("queue_tokens_full", after_s, queue.tokens, use.tokens)
        if (excess := use.bytes + item.bytes - queue.bytes) > 0:
            after_s = self._rate.retry_after_s(max(excess * waiting / max(self._use.bytes, 1), 1.0), now)
            return QueueFull("queue_bytes_full", after_s, queue.bytes, use.bytes)
        admit_below = tier.settings.admit_below
        if admit_below < 1.0:
            requests, tokens, size = self._bounds
            fill = max(waiting / requests, self._use.tokens / tokens, self._use.bytes / size)
            if fill >= admit_below:
                units = max((fill - admit_below) * waiting, 1.0)
                return QueueFull("saturated", self._rate.retry_after_s(units, now), admit_below, fill)
        return None

    def _lift(self, tenant_queue: _TenantQueue[T]) -> None:
        tier = tenant_queue.tier
        floor = self._next_tenant_queue(tier).counter if tier.use.requests else tier.last_counter
        tenant_queue.counter = max(tenant_queue.counter, floor)

    def _move(self, tenant_queue: _TenantQueue[T], tier: _Tier[T]) -> None:
        old = tenant_queue.tier
        waiting = [entry.item for _, _, entry in tenant_queue.heap if entry.waits]
        _forget(old, tenant_queue)
        tenant_queue.tier, tenant_queue.queued = tier, bool(waiting)
        if waiting:
            self._lift(tenant_queue)
            heapq.heappush(tier.tenant_queues, (tenant_queue.counter, tenant_queue.tenant, tenant_queue))
        for item in waiting:
            old.use.remove(item)
            tier.use.add(item)

    def _next_tenant_queue(self, tier: _Tier[T]) -> _TenantQueue[T]:
        """The waiting tenant queue with the smallest counter. Counters only grow, so a stale key is never too large."""
        tenant_queues = tier.tenant_queues
        while True:
            key, _, tenant_queue = tenant_queues[0]
            if not tenant_queue.count:
                heapq.heappop(tenant_queues)
                tenant_queue.queued = False
            elif key != tenant_queue.counter:
                heapq.heapreplace(tenant_queues, (tenant_queue.counter, tenant_queue.tenant, tenant_queue))
            else:
                return tenant_queue

    def _leave(self, entry: _Entry[T]) -> None:
        entry.waits = False
        item, tenant_queue = entry.item, entry.tenant_queue
        tier = tenant_queue.tier
        del self._entries[item.job_id]
        tier.use.remove(item)
        self._use.remove(item)
        tenant_queue.count -= 1
        if not self._entries:
            self._rate.pause(self._now)
        if not tenant_queue.count:
            tier.last_counter = max(tier.last_counter, tenant_queue.counter)
        tenant_queue.heap = _without_most_dead(tenant_queue.heap, tenant_queue.count)
        self._expiries = _without_most_dead(self._expiries, len(self._entries))

    def _sweep(self, now: float) -> None:
        self._now = now
        expiries = self._expiries
        while expiries and expiries[0][0] <= now:
            entry = heapq.heappop(expiries)[2]
            if entry.waits:
                self._leave(entry)
                expiries = self._expiries
                self._expired.append(entry.item)
                self._totals.expired_total += 1


def _use_of(items: Iterable[QueueItem]) -> TierUse:
    use = TierUse()
    for item in items:
        use.add(item)
    return use


def _without_most_dead(heap: list[tuple[float, int, _Entry[T]]], living: int) -> list[tuple[float, int, _Entry[T]]]:
    """The heap without its dead entries, if they outnumber the living: O(1) amortized."""
    if len(heap) <= 2 * living + _DEAD_ALLOWED:
        return heap
    kept = [held for held in heap if held[2].waits]
    heapq.heapify(kept)
    return kept


def _forget(tier: _Tier[T], tenant_queue: _TenantQueue[T]) -> None:
    """Remove it from the tier's heap, where it may be although it is empty."""
    tier.tenant_queues = [held for held in tier.tenant_queues if held[2] is not tenant_queue]
    heapq.heapify(tier.tenant_queues)


_DEAD_ALLOWED = 64
"""Dead entries are removed when they outnumber the waiting ones by this many."""
