"""Retries: a budget in relation to requests, shared by all, and the pauses before the same rung is tried again.

The budget keeps retries from multiplying the load of a rung that is failing.
"""

import msgspec

from config.model.routing import RetryBudgetSettings
from policies.errors import IntegrityError
from policies.lifecycle.supervision import Backoff
from policies.model.plan import PlannedRung

_BURST_S = 10.0
"""The bucket holds the retries of this many seconds of `min_per_second`, or `_BURST_RETRIES` if that is more."""
_BURST_RETRIES = 10.0
_FIRST_RETRIES = 3.0
"""What it holds at first: a fault of the first minute is retried, too."""


_BACKOFF = Backoff(first_s=0.5, factor=2.0, longest_s=8.0, jitter=0.9)
"""Before the k-th retry of a response."""
_SPREAD_S = 0.1
"""Requests that waited for the same pause are spread over this time."""


class RetryBudgetStatistics(msgspec.Struct, frozen=True):
    """Figures of the budget."""

    tokens: float
    taken_total: int
    refused_total: int


class RetryBudget:
    """A token bucket: filled by `ratio` per request and `min_per_second`; a retry takes one token."""

    def __init__(self, settings: RetryBudgetSettings) -> None:
        has_any = settings.ratio > 0 or settings.min_per_second > 0
        self._tokens = max(_FIRST_RETRIES, settings.min_per_second) if has_any else 0.0
        self._paid_at: float | None = None
        self._taken_total = 0
        self._refused_total = 0
        self.apply_settings(settings)

    def apply_settings(self, settings: RetryBudgetSettings) -> None:
        """Replace the settings. Tokens are kept up to the new capacity."""
        self._ratio = settings.ratio
        self._per_second = settings.min_per_second
        self._capacity = max(_BURST_RETRIES, settings.min_per_second * _BURST_S)
        self._tokens = min(self._tokens, self._capacity)

    def request(self) -> None:
        self._tokens = min(self._capacity, self._tokens + self._ratio)

    def take(self, now: float) -> bool:
        if self._paid_at is not None:
            self._tokens = min(self._capacity, self._tokens + (now - self._paid_at) * self._per_second)
        self._paid_at = now
        if self._tokens < 1:
            self._refused_total += 1
            return False
        self._tokens -= 1
        self._taken_total += 1
        return True

    def statistics(self) -> RetryBudgetStatistics:
        return RetryBudgetStatistics(self._tokens, self._taken_total, self._refused_total)

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if the bucket is below 0 or above its capacity."""
        if not 0 <= self._tokens <= self._capacity:
            raise IntegrityError(f"the retry budget holds {self._tokens} of {self._capacity}")


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
