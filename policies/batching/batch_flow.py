"""How many requests of batches are in flight, and of which batch the next one is. Pure.

A batch's requests are begun as long as few of them wait for a place on a backend. So whatever the backends are, and
whatever else runs there, as many are in flight as have found a place, and a few more: no capacity lies idle, and no
queue grows. A tenant's requests leave half of each of its limits to its other requests. What was refused because the
service is busy, or a limit is reached, is tried again after a pause, which grows while nothing of the batch succeeds.
"""

from collections.abc import Callable

import msgspec

AHEAD = 8
"""Requests of a batch that have been begun and wait for a place, at most."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0


class BatchUse(msgspec.Struct):
    """One batch that is in progress."""

    tenant: str
    order: int
    ready: int = 0
    """Requests that could be begun."""
    waiting: int = 0
    """Begun, and on no backend yet."""
    in_flight: int = 0
    paused_until: float = 0.0
    pauses: int = 0
    """One after the other, without a success in between."""


class BatchFlow:
    """Mutable; owned by the actor of batches. Each `begun` is followed by one `ended`."""

    def __init__(self, most: int, ahead: int = AHEAD) -> None:
        """`most`: requests in flight of all batches together."""
        self.most = most
        self._ahead = ahead
        self._batches: dict[str, BatchUse] = {}
        self._orders = 0
        self.in_flight = 0

    def add(self, batch_id: str, tenant: str) -> None:
        self._orders += 1
        self._batches[batch_id] = BatchUse(tenant, self._orders)

    def remove(self, batch_id: str) -> None:
        """It begins no more requests; those in flight end as they would."""
        use = self._batches.pop(batch_id, None)
        if use is not None:
            self.in_flight -= use.in_flight

    def ready(self, batch_id: str, count: int) -> None:
        """So many of its requests could be begun."""
        use = self._batches.get(batch_id)
        if use is not None:
            use.ready = count

    def next(self, now: float, has_room: Callable[[str, int], bool]) -> str | None:
        """The batch whose next request is to be begun now; None: none is.

        `has_room`: whether the limits of a tenant allow one more request beside so many of its batches.
        """
        if self.in_flight >= self.most:
            return None
        of_tenant: dict[str, int] = {}
        for use in self._batches.values():
            of_tenant[use.tenant] = of_tenant.get(use.tenant, 0) + use.in_flight
        able = [
            (of_tenant[use.tenant], use.order, batch_id)
            for batch_id, use in self._batches.items()
            if use.ready and use.waiting < self._ahead and now >= use.paused_until
        ]
        for in_flight, _, batch_id in sorted(able):
            if has_room(self._batches[batch_id].tenant, in_flight):
                return batch_id
        return None

    def begun(self, batch_id: str) -> None:
        use = self._batches[batch_id]
        use.ready -= 1
        use.waiting += 1
        use.in_flight += 1
        self.in_flight += 1

    def placed(self, batch_id: str) -> None:
        """A request that waited has a place; at most once for each `begun`."""
        use = self._batches.get(batch_id)
        if use is not None:
            use.waiting -= 1

    def ended(self, batch_id: str, now: float, *, waited: bool, retry_after_s: float | None = None) -> None:
        """A request has ended. `waited`: it never had a place. `retry_after_s`: it is to be tried again, after this."""
        use = self._batches.get(batch_id)
        if use is None:
            return
        use.in_flight -= 1
        self.in_flight -= 1
        use.waiting -= waited
        if retry_after_s is None:
            use.pauses = 0
            return
        if now < use.paused_until:
            # Begun before the pause.
            return
        grown_s = _FIRST_PAUSE_S * 2**use.pauses
        use.pauses = min(use.pauses + 1, 16)
        use.paused_until = now + min(max(retry_after_s, grown_s), _LONGEST_PAUSE_S)

    def check_integrity(self) -> None:
        """Assert that the counts add up."""
        assert self.in_flight == sum([use.in_flight for use in self._batches.values()])
        for use in self._batches.values():
            assert 0 <= use.waiting <= use.in_flight
            assert use.ready >= 0
