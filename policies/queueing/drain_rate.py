"""The measured drain rate of a queue, and the `Retry-After` computed from it."""

import math

import msgspec

_SHORTEST_S = 0.1
_LONGEST_S = 60.0
_LEAST_S = 0.25


class DrainRate(msgspec.Struct, eq=False):
    """Units served per second while the queue was blocked, with exponentially fading memory of `memory_s`. O(1).

    Only time between `resume` and `pause` counts: requests that pass without waiting would make the rate look too
    high. Until a unit was served in such a time the rate is unknown, and `retry_after_s` returns `unknown_s`.
    """

    memory_s: float = 10.0
    unknown_s: float = 1.0
    _weight: float = 0.0
    _seen_s: float = 0.0
    _at: float | None = None
    """The time up to which was counted; None: paused."""
    _has_served: bool = False

    @property
    def is_running(self) -> bool:
        return self._at is not None

    def resume(self, now: float) -> None:
        """A request waits because it does not fit."""
        if self._at is None:
            self._at = now

    def pause(self, now: float) -> None:
        self._fade(now)
        self._at = None

    def served(self, units: float, now: float) -> None:
        if self._at is not None:
            self._fade(now)
            self._weight += units
            self._has_served = True

    @property
    def weight(self) -> float:
        """The units that it remembers."""
        return self._weight

    @property
    def last_rate(self) -> float:
        """As of the last call with a time."""
        return self._weight / max(self._seen_s, _LEAST_S)

    def rate(self, now: float) -> float:
        return self.rate_with(0.0, now)

    def rate_with(self, units: float, now: float) -> float:
        """The rate as if `units` more had been served just now."""
        self._fade(now)
        # At first the memory is not full: divide by the time that it really covers, but at least by `_LEAST_S`.
        return (self._weight + units) / max(self._seen_s, _LEAST_S)

    def wait_s(self, units: float, now: float) -> float | None:
        """How long serving `units` takes at the present rate; None while it is unknown."""
        rate = self.rate(now)
        return units / rate if rate > 1e-9 else None

    def retry_after_s(self, units: float, now: float) -> float:
        """The same for a client that was refused, bounded to 0.1 to 60 s."""
        wait_s = self.wait_s(units, now)
        if wait_s is None:
            return _LONGEST_S if self._has_served else self.unknown_s
        return min(max(wait_s, _SHORTEST_S), _LONGEST_S)

    def _fade(self, now: float) -> None:
        if self._at is not None and now > self._at:
            kept = math.exp((self._at - now) / self.memory_s)
            self._weight *= kept
            self._seen_s = self._seen_s * kept + self.memory_s * (1 - kept)
            self._at = now
