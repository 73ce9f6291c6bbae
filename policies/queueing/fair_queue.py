"""The queue of jobs in front of an engine: tiers by priority, tenants by fair share, requests by deadline.

- Between tiers: a higher priority is served first, always. Starvation is bounded by time, not by shares: a job that has
  waited longer than its tier's `queue.wait`, or past its own deadline, leaves the queue as expired and is refused.
- Between the tenants of a tier: the virtual token counter of "Fairness in Serving Large Language Models" (Sheng et al.,
  OSDI 2024, section 4): each tenant has a counter of the tokens served to it, divided by its weight; the smallest
  counter is next. The counter of a tenant that was idle is lifted to the smallest counter among the waiting tenants (or
  to that of the last one that left), so that idling earns no credit. Prompt tokens count when a request is taken,
  output tokens as they are made (`charge`), twice as much, as decode costs more.
- Within a tenant: the earliest deadline first, then the order of arrival.
- Work that has begun (an escalation, an answer that goes on) is before the newcomers of its tier, in the same order,
  and is neither refused for its wait nor displaced.
- A full queue is shared, too: a newcomer takes the place of the newest newcomer of the tenant with the largest share of
  the tier's places by weight, if its own tenant's share is smaller even with it. Where lower tiers fill the queue above
  `admit_below`, it is their newest ones that go.
- A newcomer whose first content is expected after its `first_by` is refused, and one that waits leaves as soon as that
  is expected (`shed`). The first in line is never refused for its expected wait: its start measures the rate.
- While a tenant's requests are refused for their wait, only as many of them wait as its turns need (`LineLoad`).
- No request overtakes the next one because it happens to fit: a large request would starve behind small ones.

Offers and takes cost O(log n) with small constants: heaps with lazy deletion. The drain rate is measured
while the queue is blocked: from the first request that did not fit until no request waits.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping
from typing import Generic

import msgspec

from config.model.tenancy import TenantSettings, TierSettings
from policies.errors import IntegrityError, UnknownTenant
from policies.queueing.drain_rate import DrainRate
from policies.queueing.expected_wait import ExpectedWait
from policies.queueing.queue_item import Accepted, FairQueueStatistics, FullReason, QueueFull, QueueItem, TierUse
from policies.queueing.tenant_queue import (
    DEAD_ALLOWED,
    NEWCOMERS,
    Entry,
    Line,
    T,
    TenantQueue,
    Tier,
    check_line,
    forget,
    newest,
    newest_of_largest,
    share_of,
    use_of,
    without_most_dead,
)
from policies.queueing.work_rate import OUTPUT_TOKEN_COST, PROMPT_TOKEN_COST, TAKEN_KEPT, WorkRate

_CREDIT_S = 1.0
"""A tenant that was idle may be behind the others by the work of so many seconds."""


class FairQueue(Generic[T]):
    """`now` never runs backwards; the tenants are those of `config.tenants.known_tenants`."""

    def __init__(self, tiers: Mapping[str, TierSettings], tenants: Mapping[str, TenantSettings]) -> None:
        self._tiers: dict[str, Tier[T]] = {}
        self._tenant_queues: dict[str, TenantQueue[T]] = {}
        self._entries: dict[str | int, Entry[T]] = {}
        self._expiries: list[tuple[float, int, Entry[T]]] = []
        self._expired: list[T] = []
        self._displaced: list[tuple[T, QueueFull]] = []
        self._order = 0
        self.use = TierUse()
        """What waits, in all tiers."""
        self._rate = DrainRate()
        self._work = WorkRate()
        self._waits = ExpectedWait[T](self._work)
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
            self._tiers.setdefault(name, Tier(name, tier_settings, TierUse())).settings = tier_settings
        for name, settings in tenants.items():
            tenant_queue = self._tenant_queues.get(name)
            if tenant_queue is None:
                tenant_queue = TenantQueue[T](name, self._tiers[settings.tier], 1.0 / settings.weight)
                tenant_queue.lines = tuple([Line(tenant_queue, group) for group in range(2)])
                self._tenant_queues[name] = tenant_queue
                continue
            if tenant_queue.per_token != 1.0 / settings.weight:
                tenant_queue.set_counter(tenant_queue.counter, 1.0 / settings.weight)
            if tenant_queue.tier.name != settings.tier:
                self._move(tenant_queue, self._tiers[settings.tier])
        for name, tenant_queue in list(self._tenant_queues.items()):
            if name not in tenants and not tenant_queue.use.requests:
                del self._tenant_queues[name]
                forget(tenant_queue.tier, tenant_queue)
        used = {tenant_queue.tier.name for tenant_queue in self._tenant_queues.values()}
        self._tiers = {name: tier for name, tier in self._tiers.items() if name in tiers or name in used}
        self._by_priority = sorted(self._tiers.values(), key=lambda tier: -tier.settings.priority)
        self._waits.by_priority = self._by_priority
        queues = [tier.queue for tier in tiers.values()]
        self._bounds = [sum(getattr(queue, word) for queue in queues) for word in ("requests", "tokens", "bytes")]

    def __len__(self) -> int:
        return len(self._entries)

    def pass_by(self, item: T, now: float) -> QueueFull | None:
        """While nothing waits: as `offer` and then `take`, for a request that starts now. `QueueFull`: it must not.

        Raises UnknownTenant.
        """
        tenant_queue = self._tenant_queues.get(item.tenant)
        if tenant_queue is None:
            raise UnknownTenant(item.tenant)
        self._sweep(now)
        self._lift(tenant_queue)
        tier = tenant_queue.tier
        full = self._full(tier, item, tier.use, self.use, now)
        if full is not None:
            self._count_refused(full.reason)
            return full
        self._totals.offered_total += 1
        self._count_taken(item, self._work.of(item), tenant_queue, now)
        tier.last_counter = max(tier.last_counter, tenant_queue.counter)
        return None

    def offer(self, item: T, now: float) -> Accepted | QueueFull:
        """Enqueue, unless a bound is reached or it would wait too long.

        Raises UnknownTenant; ValueError for an id that waits already.
        """
        tenant_queue = self._tenant_queues.get(item.tenant)
        if tenant_queue is None:
            raise UnknownTenant(item.tenant)
        if item.job_id in self._entries:
            raise ValueError(f"{item.job_id!r} waits already")
        tier = tenant_queue.tier
        # Expired requests take up no room, even if `expire` has not returned them yet.
        self._sweep(now)
        work = self._work.of(item)
        line = tenant_queue.lines[NEWCOMERS if item.is_newcomer else 0]
        if not tenant_queue.use.requests:
            self._lift(tenant_queue)
        full = self._waits.overdue(line, item, work, now) if item.is_newcomer else None
        if full is None:
            room = self._room(tenant_queue, item, now)
            if isinstance(room, QueueFull):
                full = room
        if full is not None:
            self._count_refused(full.reason)
            return full
        assert not isinstance(room, QueueFull)
        for each, why in room:
            self._leave(each)
            self._totals.displaced_total += 1
            self._count_refused(why.reason)
            self._displaced.append((each.item, why))
        wait_s = tier.settings.queue.wait if item.wait_s is None else item.wait_s
        expires_at = item.deadline if item.goes_on else min(item.deadline, now + wait_s)
        if item.is_newcomer and item.first_by is not None:
            expires_at = min(expires_at, max(item.first_by - tier.first.least_s, now))
        entry = Entry(item, line, work)
        self._order += 1
        heapq.heappush(line.heap, (item.deadline, self._order, entry))
        line.arrivals.append((0.0, self._order, entry))
        heapq.heappush(self._expiries, (expires_at, self._order, entry))
        line.latest = max(line.latest, item.deadline) if line.count else item.deadline
        line.count += 1
        line.work += work
        self._entries[item.job_id] = entry
        for use in (tenant_queue.use, tier.use, self.use):
            use.add(item)
        tier.work += work
        self._totals.offered_total += 1
        if not line.queued:
            line.queued = True
            heapq.heappush(tier.groups[line.group], (tenant_queue.counter, tenant_queue.tenant, line))
        return Accepted(expires_at, self._rate.wait_s(len(self._entries), now), len(room))

    def may_refuse(self, tenant: str) -> bool:
        """Whether `refuses` can be expected to refuse newcomers of this tenant."""
        tenant_queue = self._tenant_queues.get(tenant)
        if tenant_queue is None:
            return False
        line = tenant_queue.lines[NEWCOMERS]
        return line.count > 0 and line.load.is_overloaded

    def refuses(self, item: QueueItem, now: float) -> QueueFull | None:
        """Why `offer` would refuse this newcomer, whatever its size; None: it may be accepted. Nothing is counted."""
        tenant_queue = self._tenant_queues.get(item.tenant)
        if tenant_queue is None or item.first_by is None:
            return None
        if (expiry := self.next_expiry()) is not None and expiry <= now:
            # What has expired is still in its line.
            return None
        line = tenant_queue.lines[NEWCOMERS]
        load = line.load.with_one_more(now)
        return self._waits.too_many(line, load, item, now) if load.is_overloaded else None

    def refused_early(self, item: QueueItem, now: float) -> None:
        """A newcomer was refused because of `refuses`, and not offered: count it."""
        tenant_queue = self._tenant_queues.get(item.tenant)
        if tenant_queue is not None:
            load = tenant_queue.lines[NEWCOMERS].load
            load.offered(now)
            load.refused(now)
            self._work.refused(self._work.of(item), now)
            self._count_refused("overload")

    def displaced(self) -> list[tuple[T, QueueFull]]:
        """Those that lost their place since the last call, each exactly once, and why."""
        displaced, self._displaced = self._displaced, []
        return displaced

    def shed(self, now: float) -> list[tuple[T, QueueFull]]:
        """Dequeue the newcomers whose first content is expected after their `first_by`, the newest first."""
        self._sweep(now)
        shed = []
        for tier in reversed(self._by_priority):
            for _, _, line in list(tier.groups[NEWCOMERS]):
                while (entry := newest(line)) is not None:
                    why = self._waits.hopeless(entry, now)
                    if why is None:
                        break
                    self._leave(entry)
                    line.load.refused(now)
                    self._work.refused(entry.work, now)
                    self._totals.shed_total += 1
                    self._count_refused(why.reason)
                    shed.append((entry.item, why))
        return shed

    def take(self, now: float, fits: Callable[[T], bool] | None = None) -> T | None:
        """Dequeue the next request; None if none waits or the next one does not fit yet."""
        self._sweep(now)
        for tier in self._by_priority:
            line = self._next_line(tier)
            if line is None:
                continue
            heap = line.heap
            while not heap[0][2].waits:
                heapq.heappop(heap)
            entry = heap[0][2]
            if fits is not None and not fits(entry.item):
                self._rate.resume(now)
                self._work.rate.resume(now)
                return None
            heapq.heappop(heap)
            self._count_taken(entry.item, entry.work, line.of, now)
            line.load.taken(now)
            self._leave(entry)
            return entry.item
        return None

    def charge(self, tenant: str, tokens: int) -> None:
        """Count output tokens of a tenant; without effect on the order if the tenant was removed."""
        self._work.made(tokens)
        tenant_queue = self._tenant_queues.get(tenant)
        if tenant_queue is not None:
            tenant_queue.served += tokens * OUTPUT_TOKEN_COST

    def first_output(self, tenant: str, seconds: float) -> None:
        """A job of the tenant gave its first output so long after it was taken."""
        tenant_queue = self._tenant_queues.get(tenant)
        if tenant_queue is not None:
            tenant_queue.tier.first.add(seconds)

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

    def knows(self, tenant: str) -> bool:
        """Whether it has a queue for this tenant."""
        return tenant in self._tenant_queues

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
            tokens=self.use.tokens,
            bytes=self.use.bytes,
            refused_total=dict(self._totals.refused_total),
        )

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if the sums are wrong, a request was lost, or dead entries pile up."""
        entries = self._entries.values()
        if self.use != use_of(entry.item for entry in entries):
            raise IntegrityError("the line's sums differ from its entries")
        for tier in self._tiers.values():
            own = [entry for entry in entries if entry.line.of.tier is tier]
            if tier.use != use_of(entry.item for entry in own) or tier.work != sum(entry.work for entry in own):
                raise IntegrityError(f"the sums of tier '{tier.name}' differ from its entries")
        for tenant_queue in self._tenant_queues.values():
            if tenant_queue.use != use_of(entry.item for entry in entries if entry.line.of is tenant_queue):
                raise IntegrityError(f"the sums of tenant '{tenant_queue.tenant}' differ from its entries")
            for line in tenant_queue.lines:
                check_line(line)
        if len(self._expiries) > 2 * len(self._entries) + DEAD_ALLOWED:
            raise IntegrityError("dead entries pile up among the expiries")
        totals = self._totals
        ended = (
            totals.taken_total
            + totals.removed_total
            + totals.expired_total
            + totals.displaced_total
            + totals.shed_total
        )
        if totals.offered_total != ended + len(self._entries):
            raise IntegrityError("something was lost or counted twice")

    def _count_taken(self, item: T, work: int, tenant_queue: TenantQueue[T], now: float) -> None:
        tenant_queue.served += item.prompt_tokens * PROMPT_TOKEN_COST
        self._rate.served(1, now)
        self._work.taken(work, now)
        for each in self._tiers.values():
            each.taken *= TAKEN_KEPT
        tenant_queue.tier.taken += work
        self._totals.taken_total += 1

    def _count_refused(self, reason: FullReason) -> None:
        refused = self._totals.refused_total
        refused[reason] = refused.get(reason, 0) + 1

    # --- places ---------------------------------------------------------------------------------------------------

    def _room(self, own: TenantQueue[T], item: T, now: float) -> list[tuple[Entry[T], QueueFull]] | QueueFull:
        """Those whose places the request gets, none if there is room; `QueueFull` if it cannot have enough."""
        tier = own.tier
        full = first = self._full(tier, item, tier.use, self.use, now)
        displaced: list[tuple[Entry[T], QueueFull]] = []
        if full is None:
            return displaced
        use, total = msgspec.structs.replace(tier.use), msgspec.structs.replace(self.use)
        left: dict[str, TierUse] = {}
        while full is not None:
            if full.reason == "larger_than_queue":
                return full
            found = self._largest(own, item, left, lower_too=full.reason == "saturated")
            if found is None:
                assert first is not None
                return first
            displaced.append((found, full))
            total.remove(found.item)
            holder = found.line.of
            left.setdefault(holder.tenant, msgspec.structs.replace(holder.use)).remove(found.item)
            if holder.tier is tier:
                use.remove(found.item)
            full = self._full(tier, item, use, total, now)
        return displaced

    def _largest(
        self, own: TenantQueue[T], item: T, left: Mapping[str, TierUse], *, lower_too: bool
    ) -> Entry[T] | None:
        """The newest newcomer of the tenant with the largest share. `left`: what tenants keep after earlier losses."""
        tier = own.tier
        after = msgspec.structs.replace(own.use)
        after.add(item)
        own_share = 0.0 if not item.is_newcomer else share_of(own, after)
        if lower_too:
            for lower in reversed(self._by_priority):
                if lower.settings.priority >= tier.settings.priority:
                    break
                if (entry := newest_of_largest(lower, left)) is not None:
                    return entry
        entry = newest_of_largest(tier, left, own if item.is_newcomer else None)
        if entry is None or share_of(entry.line.of, left.get(entry.line.of.tenant, entry.line.of.use)) <= own_share:
            return None
        return entry

    def _full(self, tier: Tier[T], item: T, use: TierUse, total: TierUse, now: float) -> QueueFull | None:
        """`use`, `total`: what waits in this tier, and in all."""
        queue, waiting = tier.settings.queue, total.requests
        if item.tokens > queue.tokens:
            return QueueFull("larger_than_queue", None, queue.tokens, item.tokens)
        if item.bytes > queue.bytes:
            return QueueFull("larger_than_queue", None, queue.bytes, item.bytes)
        if use.requests >= queue.requests:
            return QueueFull("queue_requests_full", self._rate.retry_after_s(1, now), queue.requests, use.requests)
        if (excess := use.tokens + item.tokens - queue.tokens) > 0:
            after_s = self._rate.retry_after_s(max(excess * waiting / max(total.tokens, waiting), 1.0), now)
            return QueueFull("queue_tokens_full", after_s, queue.tokens, use.tokens)
        if (excess := use.bytes + item.bytes - queue.bytes) > 0:
            after_s = self._rate.retry_after_s(max(excess * waiting / max(total.bytes, 1), 1.0), now)
            return QueueFull("queue_bytes_full", after_s, queue.bytes, use.bytes)
        admit_below = tier.settings.admit_below
        if admit_below < 1.0:
            requests, tokens, size = self._bounds
            fill = max(waiting / requests, total.tokens / tokens, total.bytes / size)
            if fill >= admit_below:
                units = max((fill - admit_below) * waiting, 1.0)
                return QueueFull("saturated", self._rate.retry_after_s(units, now), admit_below, fill)
        return None

    # --- the order ------------------------------------------------------------------------------------------------

    def _lift(self, tenant_queue: TenantQueue[T]) -> None:
        tier = tenant_queue.tier
        floor = tier.last_counter
        if tier.use.requests:
            firsts = [line for group in range(2) if (line := self._first(tier, group)) is not None]
            floor = min([line.of.counter for line in firsts])
        floor -= self._work.in_s(_CREDIT_S) * tenant_queue.per_token
        if floor > tenant_queue.counter:
            tenant_queue.set_counter(floor, tenant_queue.per_token)

    def _move(self, tenant_queue: TenantQueue[T], tier: Tier[T]) -> None:
        old = tenant_queue.tier
        waiting = [entry for line in tenant_queue.lines for _, _, entry in line.heap if entry.waits]
        forget(old, tenant_queue)
        tenant_queue.tier = tier
        if waiting:
            self._lift(tenant_queue)
        for line in tenant_queue.lines:
            line.queued = bool(line.count)
            if line.queued:
                heapq.heappush(tier.groups[line.group], (tenant_queue.counter, tenant_queue.tenant, line))
        for entry in waiting:
            old.use.remove(entry.item)
            tier.use.add(entry.item)
            old.work -= entry.work
            tier.work += entry.work

    def _next_line(self, tier: Tier[T]) -> Line[T] | None:
        """Begun work first, then the smallest counter; None: nothing waits in this tier."""
        if not tier.use.requests:
            return None
        return self._first(tier, 0) or self._first(tier, NEWCOMERS)

    def _first(self, tier: Tier[T], number: int) -> Line[T] | None:
        """The waiting line with the smallest counter. Counters only grow, so a stale key is never too large."""
        group = tier.groups[number]
        while group:
            key, _, line = group[0]
            if not line.count:
                heapq.heappop(group)
                line.queued = False
            elif key != line.of.counter:
                heapq.heapreplace(group, (line.of.counter, line.of.tenant, line))
            else:
                return line
        return None

    def _leave(self, entry: Entry[T]) -> None:
        entry.waits = False
        item, line = entry.item, entry.line
        tenant_queue = line.of
        tier = tenant_queue.tier
        del self._entries[item.job_id]
        for use in (tenant_queue.use, tier.use, self.use):
            use.remove(item)
        tier.work -= entry.work
        line.work -= entry.work
        line.count -= 1
        if not self._entries:
            self._rate.pause(self._now)
            self._work.rate.pause(self._now)
        if not tenant_queue.use.requests:
            tier.last_counter = max(tier.last_counter, tenant_queue.counter)
        line.heap = without_most_dead(line.heap, line.count)
        line.arrivals = without_most_dead(line.arrivals, line.count)
        self._expiries = without_most_dead(self._expiries, len(self._entries))

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
