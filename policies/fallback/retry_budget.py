"""Retries: a budget in relation to active requests, shared by all, and the pauses before a rung is tried again.

The budget keeps retries from multiplying the load of a rung that is failing. It bounds how many run at the same time,
as Envoy's `retry_budget` does: a rate would allow the more of them the longer each one takes.
"""

from collections.abc import Callable

import msgspec

from config.model.routing import RetryBudgetSettings
from policies.errors import IntegrityError
from policies.lifecycle.supervision import Backoff
from policies.model.plan import PlannedRung

_EXACT = 1e-9
"""0.1 * 30 is 3."""
_BACKOFF = Backoff(first_s=0.5, factor=2.0, longest_s=8.0, jitter=0.9)
"""Before the k-th retry of a response."""
_SPREAD_S = 0.1
"""Requests that waited for the same pause are spread over this time."""


class RetryBudgetStatistics(msgspec.Struct, frozen=True):
    """Figures of the budget."""

    running: int
    limit: int
    """How many may run now, with the hedges."""
    taken_total: int
    refused_total: int


class RetryBudget:
    """At most `share` of the active requests may be retries at the same time, and `at_least` in any case."""

    def __init__(
        self, settings: RetryBudgetSettings, *, active: Callable[[], int], hedges: Callable[[], int] = lambda: 0
    ) -> None:
        """`active`: the requests in progress; `hedges`: calls beside slow ones, which count like retries."""
        self._active = active
        self._hedges = hedges
        self._running = 0
        self._taken_total = 0
        self._refused_total = 0
        self.apply_settings(settings)

    def apply_settings(self, settings: RetryBudgetSettings) -> None:
        """Replace the settings. What runs goes on."""
        self._share = settings.share
        self._at_least = settings.at_least

    @property
    def limit(self) -> int:
        return max(self._at_least, int(self._share * self._active() + _EXACT))

    def has_room(self) -> bool:
        """Whether a retry or a hedge may begin now."""
        return self._running + self._hedges() < self.limit

    def take(self) -> bool:
        """Whether a retry may begin now; it is counted until `give_back`."""
        if not self.has_room():
            self._refused_total += 1
            return False
        self._running += 1
        self._taken_total += 1
        return True

    def give_back(self) -> None:
        """A retry has ended. Harmless if there is none: its end may be reported twice after a crash of the owner."""
        self._running = max(self._running - 1, 0)

    def statistics(self) -> RetryBudgetStatistics:
        return RetryBudgetStatistics(self._running, self.limit, self._taken_total, self._refused_total)

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if more retries run than were taken."""
        if not 0 <= self._running <= self._taken_total:
            raise IntegrityError(f"{self._running} retries run, and {self._taken_total} were taken")


class Pauses(msgspec.Struct):
    """The pauses of one response. `random01`: a random number in 0..1."""

    _retries: int = 0
    _waited_out: set[str] = set()

    def before_retry(self, now: float, random01: float, due: float) -> float | None:
        """When a failed rung may be tried again; None if not before `due`. The pause doubles with each retry."""
        at = now + _BACKOFF.delay_s(self._retries + 1, random01)
        if at >= due:
            return None
        self._retries += 1
        return at

    def waited_out(self, rung: PlannedRung, pause_s: float, now: float, random01: float, due: float) -> float | None:
        """When a rung that asked for `pause_s` is tried again; None if `wait_out`, `due` or an earlier wait forbids."""
        at = now + pause_s + _SPREAD_S * (1.0 - 0.9 * random01)
        is_allowed = 0 < rung.wait_out_s >= pause_s
        if rung.to is None or rung.to in self._waited_out or not is_allowed or at >= due:
            return None
        self._waited_out.add(rung.to)
        return at
