"""When a second address is called beside one that is slow to answer. Sans-IO.

After Dean and Barroso, The Tail at Scale, CACM 56(2), 2013: a second call once the first has taken longer than most do
costs few calls and cuts off the tail.
"""

from collections import deque
from collections.abc import Callable

_WINDOW = 200
"""The latest times to the first output, of which the percentile is taken."""
_LEAST = 20
"""Without so many there is no percentile, and no second call."""
_MARGIN = 1.05
"""Where all calls take equally long, none is slow."""
_SAVED = 5.0
"""Second calls that may be saved up while there is no need for any."""


class Hedging:
    """Of one upstream."""

    def __init__(self, percentile: float, share: float, *, has_room: Callable[[], bool]) -> None:
        """`share`: second calls for each call, at most. `has_room`: whether the retry budget has room for one."""
        self._percentile = percentile
        self._share = share
        self._has_room = has_room
        self._ttft_s: deque[float] = deque(maxlen=_WINDOW)
        self._allowed = 0.0
        self.running = 0
        """Second calls whose first one runs, too."""
        self.won_total = 0
        """Second calls that answered first."""
        self.lost_total = 0

    def began(self) -> None:
        """A first call has begun."""
        self._allowed = min(self._allowed + self._share, _SAVED)

    def answered(self, ttft_s: float) -> None:
        """A call had its first output so long after it began."""
        self._ttft_s.append(ttft_s)

    def delay_s(self) -> float | None:
        """How long to wait for a first call before the second; None: not known yet."""
        if len(self._ttft_s) < _LEAST:
            return None
        ordered = sorted(self._ttft_s)
        return _MARGIN * ordered[min(int(len(ordered) * self._percentile / 100), len(ordered) - 1)]

    @property
    def may_begin(self) -> bool:
        """Whether a second call may begin now."""
        return self._allowed >= 1.0 and self._has_room()

    def take(self) -> bool:
        """Whether a second call may begin now; it is counted until `give_back`."""
        if not self.may_begin:
            return False
        self._allowed -= 1.0
        self.running += 1
        return True

    def give_back(self) -> None:
        """One of the two calls has ended."""
        self.running -= 1

    def totals(self) -> dict[str, int]:
        """By outcome."""
        return {"won": self.won_total, "lost": self.lost_total}

    def ended(self, *, won: bool) -> None:
        """The second call answered first, or not."""
        if won:
            self.won_total += 1
        else:
            self.lost_total += 1
