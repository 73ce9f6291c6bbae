"""How fast a queue drains, measured; and from that, when to come back."""

import math

_SHORTEST_S = 0.1
_LONGEST_S = 60.0
_LEAST_S = 0.25


class DrainRate:
    """Units served a second while the queue was held up, with exponentially fading memory of `memory_s`. O(1).

    Only time between `resume` and `pause` counts: what passes through without waiting would make a queue look
    fast just before it is needed. Until something was served in such a time nothing is known, and
    `retry_after_s` says `unknown_s`.
    """

    def __init__(self, memory_s: float = 10.0, unknown_s: float = 1.0) -> None:
        self._memory_s = memory_s
        self._unknown_s = unknown_s
        self._weight = 0.0
        self._seen_s = 0.0
        self._at: float | None = None
        """Up to when time was counted; None: paused."""
        self._has_served = False

    def resume(self, now: float) -> None:
        """Something waits because there is no room for it."""
        if self._at is None:
            self._at = now

    def pause(self, now: float) -> None:
        """Nothing waits any more."""
        self._fade(now)
        self._at = None

    def served(self, units: float, now: float) -> None:
        """So much left the queue."""
        if self._at is not None:
            self._fade(now)
            self._weight += units
            self._has_served = True

    def rate(self, now: float) -> float:
        """Units a second; 0 while unknown."""
        self._fade(now)
        # The memory is not full at first: divide by the time that it really holds, but do not trust a mere instant.
        return self._weight / max(self._seen_s, _LEAST_S)

    def wait_s(self, units: float, now: float) -> float | None:
        """How long `units` take to be served at the present rate; None while it is unknown."""
        rate = self.rate(now)
        return units / rate if rate > 1e-9 else None

    def retry_after_s(self, units: float, now: float) -> float:
        """The same as a bounded advice for a client that was refused: 0.1 to 60 s."""
        wait_s = self.wait_s(units, now)
        if wait_s is None:
            return _LONGEST_S if self._has_served else self._unknown_s
        return min(max(wait_s, _SHORTEST_S), _LONGEST_S)

    def _fade(self, now: float) -> None:
        if self._at is not None and now > self._at:
            kept = math.exp((self._at - now) / self._memory_s)
            self._weight *= kept
            self._seen_s = self._seen_s * kept + self._memory_s * (1 - kept)
            self._at = now
