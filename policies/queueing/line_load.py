"""How many requests of a tenant have to wait so that its turns are used: a longer line only makes answers later.

Where more is offered than is served, the place of a request that starts is soon taken again. A queue that is offered
`r` times what it serves, and holds K, is empty for about 1 / r^K of the time (M/M/1/K; Kleinrock, "Queueing Systems"
vol. 1, section 3.6). So few suffice when the load is high: `enough` is the K for which that is `_EMPTY`. The rest is
refused at once, and those that wait are served long before their time is up: without this rule a line under overload
is always as long as the time allows, and whatever delays it makes requests of it too late. For the same reason an
expected wait has a margin then, the larger the more others would come in time (`caution`).

It holds only while the line has lately been refused requests because of its wait. A burst that can be served in time is
no overload.
"""

import math

import msgspec

_EMPTY = 0.35
"""While a tenant has none, others are served, the engine holds a few that have not started, and the tenant has the next
turn instead of the lost one."""
_MEMORY_S = 5.0
_LATELY = 0.5
"""As much of a refusal is left of one after 3.5 seconds."""


class LineLoad(msgspec.Struct, eq=False):
    """Mutable; one line's requests that came, started and were refused, with exponentially fading memory."""

    _offered: float = 0.0
    _taken: float = 0.0
    _refused: float = 0.0
    _at: float = 0.0

    def offered(self, now: float) -> None:
        """A request came that could not start at once."""
        self._fade(now)
        self._offered += 1

    def with_one_more(self, now: float) -> "LineLoad":
        """What it is once `offered`; this one stays as it is."""
        more = msgspec.structs.replace(self)
        more.offered(now)
        return more

    def taken(self, now: float) -> None:
        self._fade(now)
        self._taken += 1

    def refused(self, now: float) -> None:
        """A request was refused because of its expected wait: when it came, or while it waited."""
        self._fade(now)
        self._refused += 1

    @property
    def ratio(self) -> float:
        """Offered for each that was taken; as of the last event."""
        return self._offered / max(self._taken, 1.0)

    @property
    def is_overloaded(self) -> bool:
        """More is offered than is served, and not all in time."""
        return self._refused >= _LATELY and self.ratio > 1

    @property
    def enough(self) -> float:
        """While it `is_overloaded`, a newcomer is refused where so many wait already; at least 1."""
        return max(math.log(1 / _EMPTY) / math.log(self.ratio), 1.0)

    @property
    def caution(self) -> float:
        """So many times its expected wait must be in time of one that comes while it `is_overloaded`: 1 to 2."""
        return 2 - 1 / self.ratio

    def _fade(self, now: float) -> None:
        if now > self._at:
            kept = math.exp((self._at - now) / _MEMORY_S)
            self._offered *= kept
            self._taken *= kept
            self._refused *= kept
            self._at = now
