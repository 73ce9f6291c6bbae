"""Retries in relation to requests, shared by all: keeps a failing rung from being hammered by its own rescuers."""

import msgspec

from config.model.routing import RetryBudgetSettings
from policies.errors import IntegrityError

_BURST_S = 10.0
"""Retries saved up are those of this many seconds of `min_per_second`, or `_BURST_RETRIES`, whichever is more."""
_BURST_RETRIES = 10.0


class RetryBudgetStatistics(msgspec.Struct, frozen=True):
    """Figures of the budget."""

    tokens: float
    taken_total: int
    refused_total: int


class RetryBudget:
    """A token bucket: a request pays in `ratio`, time pays in `min_per_second`, a retry takes one out."""

    def __init__(self, settings: RetryBudgetSettings) -> None:
        self._tokens = settings.min_per_second
        self._paid_at: float | None = None
        self._taken_total = 0
        self._refused_total = 0
        self.apply_settings(settings)

    def apply_settings(self, settings: RetryBudgetSettings) -> None:
        """Other settings from now on; what was saved up stays, as far as it fits."""
        self._ratio = settings.ratio
        self._per_second = settings.min_per_second
        self._capacity = max(_BURST_RETRIES, settings.min_per_second * _BURST_S)
        self._tokens = min(self._tokens, self._capacity)

    def request(self) -> None:
        """A first attempt was made."""
        self._tokens = min(self._capacity, self._tokens + self._ratio)

    def take(self, now: float) -> bool:
        """Whether one more retry may be made; if so it is paid for."""
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
        """Figures as of the last call."""
        return RetryBudgetStatistics(self._tokens, self._taken_total, self._refused_total)

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if the bucket holds less than nothing or more than its capacity."""
        if not 0 <= self._tokens <= self._capacity:
            raise IntegrityError(f"the retry budget holds {self._tokens} of {self._capacity}")
