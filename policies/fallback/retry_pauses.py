"""When the same rung is asked again for one response: after a failure, and after a pause that it asked for. Pure."""

from policies.lifecycle.supervision import Backoff
from policies.model.plan import PlannedRung

_BACKOFF = Backoff(first_s=0.5, factor=2.0, longest_s=8.0, jitter=0.9)
"""Before the k-th retry of a response."""
_SPREAD_S = 0.1
"""Those that have waited out the same pause come back within this, and not at one instant."""


class Pauses:
    """The pauses of one response. `random01`: a random number in 0..1; None means: not again."""

    def __init__(self) -> None:
        self._retries = 0
        self._waited_out: set[str] = set()

    def before_retry(self, now: float, random01: float, due: float) -> float | None:
        """When a rung that has failed may be asked again, if that is before `due`. Longer with each retry."""
        at = now + _BACKOFF.delay_s(self._retries + 1, random01)
        if at >= due:
            return None
        self._retries += 1
        return at

    def waited_out(self, rung: PlannedRung, pause_s: float, now: float, random01: float, due: float) -> float | None:
        """When a rung is asked again that wants `pause_s`: once, if its policy and `due` have the time."""
        at = now + pause_s + _SPREAD_S * (1.0 - 0.9 * random01)
        if rung.to is None or rung.to in self._waited_out or pause_s > rung.wait_out_s or at >= due:
            return None
        if not rung.wait_out_s:
            return None
        self._waited_out.add(rung.to)
        return at
