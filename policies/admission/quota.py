"""Token and request quotas of tenants: reserve the worst case before a request runs, settle actual usage after it.

Minute and day are sliding windows (in slices of one second and of five minutes), so that no window boundary invites all
clients at once. Tokens count from the time of their reservation, even if the answer takes longer than the window.
A refusal is not counted against any limit.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from config.model.tenancy import TenantSettings
from policies.admission.sliding_window import Slice, SlidingWindow
from policies.errors import IntegrityError, UnknownTenant


class WindowLimit(msgspec.Struct, frozen=True, gc=False):
    """Limit and usage of one sliding window."""

    limit: int
    remaining: int
    resets_in_s: float
    """Time until the whole limit is available if nothing else is admitted."""


class RateLimits(msgspec.Struct, frozen=True, gc=False):
    """The windows of one tenant; None where it has no limit."""

    requests: WindowLimit | None
    tokens: WindowLimit | None
    """Of the minute and the day, the window with less remaining."""


Limit = Literal["tokens_per_minute", "tokens_per_day", "requests_per_minute", "concurrent"]

_MINUTE_S, _MINUTE_SLICE_S = 60.0, 1.0
_DAY_S, _DAY_SLICE_S = 86_400.0, 300.0


class Reservation(msgspec.Struct, frozen=True, gc=False):
    """Tokens reserved for one request. Pass it to `settle` or `cancel`, exactly once."""

    number: int
    tenant: str
    tokens: int


class Used(msgspec.Struct, frozen=True, gc=False):
    """Usage of a tenant before this process started."""

    window: Literal["minute", "day"]
    age_s: float
    tokens: int
    requests: int = 0
    """Ignored for the day, which has no limit on requests."""


class QuotaRefusal(msgspec.Struct, frozen=True, gc=False):
    """The limit that a request exceeds, and when the request would fit."""

    limit: Limit
    scope: str
    """Whose limit it is: "tenant acme"."""
    limit_value: int
    used: int
    """Spent and reserved within the limit's window, or requests in flight."""
    requested: int
    """Tokens, or 1 for limits on requests."""
    resets_in_s: float | None
    """When this request would fit if no other is admitted. None: never (`requested` exceeds the limit) or, for
    `concurrent`, when a running request ends."""

    def __str__(self) -> str:
        what = "requests at once" if self.limit == "concurrent" else self.limit.replace("_", " ")
        if self.resets_in_s is None and self.limit != "concurrent":
            return (
                f"This request may need up to {self.requested} tokens, more than the limit of {self.limit_value} "
                f"{what} of {self.scope}. Lower max_tokens or shorten the prompt."
            )
        text = f"The limit of {self.limit_value} {what} of {self.scope} is reached: {self.used} in use"
        text += f", and this request may need up to {self.requested}" if self.limit.startswith("tokens") else ""
        if self.resets_in_s is not None:
            return f"{text}. There is room in {self.resets_in_s:.1f} s."
        return f"{text}. There is room as soon as one of them ends."


class TenantUse(msgspec.Struct):
    """Usage of one tenant."""

    in_flight: int = 0
    reserved_tokens: int = 0
    """Sum of the open reservations."""
    minute_tokens: int = 0
    day_tokens: int = 0
    minute_requests: int = 0
    reserved_total: int = 0
    spent_total: int = 0
    requests_total: int = 0
    refused_total: int = 0


class QuotaStatistics(msgspec.Struct, frozen=True):
    """Usage of all tenants."""

    tenants: Mapping[str, TenantUse]
    open: int
    overruns: int
    """Settlements above the reservation; they are charged the reserved amount."""


class _Account:
    def __init__(self, settings: TenantSettings) -> None:
        self.minute = SlidingWindow(_MINUTE_S, _MINUTE_SLICE_S)
        self.day = SlidingWindow(_DAY_S, _DAY_SLICE_S)
        self.requests = SlidingWindow(_MINUTE_S, _MINUTE_SLICE_S)
        self.use = TenantUse()
        """Without what the windows hold."""
        self.apply_settings(settings)

    def apply_settings(self, settings: TenantSettings) -> None:
        self.settings = settings
        self.windows: tuple[tuple[Limit, SlidingWindow, int | None], ...] = (
            ("requests_per_minute", self.requests, settings.requests_per_minute),
            ("tokens_per_minute", self.minute, settings.tokens.per_minute),
            ("tokens_per_day", self.day, settings.tokens.per_day),
        )
        """By limit, that on requests first: its window and its value."""


class _Open(msgspec.Struct, frozen=True, gc=False):
    account: _Account
    minute: Slice
    day: Slice
    requests: Slice


class QuotaBook:
    """All tenants' quotas. `now` is a monotonic time in seconds."""

    def __init__(self, tenants: Mapping[str, TenantSettings]) -> None:
        self._accounts = {name: _Account(settings) for name, settings in tenants.items()}
        self._open: dict[int, tuple[Reservation, _Open]] = {}
        self._next_number = 1
        self._overruns = 0

    def apply_settings(self, tenants: Mapping[str, TenantSettings], now: float) -> dict[str, TenantSettings]:
        """Replace the limits; usage within the windows is kept. Returns the settings of all tenants with an account.

        A removed tenant keeps its account, with its last limits, while it has requests in flight and until its windows
        are empty: its requests can be settled, and adding it again does not reset its usage.
        """
        for name, settings in tenants.items():
            self._accounts.setdefault(name, _Account(settings)).apply_settings(settings)
        self._accounts = {
            name: account
            for name, account in self._accounts.items()
            if name in tenants or account.use.in_flight or account.day.sum(now) or account.requests.sum(now)
        }
        return {name: account.settings for name, account in self._accounts.items()}

    def reserve(self, tenant: str, tokens: int, now: float, *, limited: bool = True) -> Reservation | QuotaRefusal:
        """Reserve `tokens`: the prompt plus the maximum output of all choices. Raises UnknownTenant.

        `limited`: False counts them, and never refuses.
        """
        account = self._accounts.get(tenant)
        if account is None:
            raise UnknownTenant(tenant)
        refusal = self._refusal(account, tenant, tokens, now) if limited else None
        if refusal is not None:
            account.use.refused_total += 1
            return refusal
        reservation = Reservation(self._next_number, tenant, tokens)
        self._next_number += 1
        opened = _Open(
            account, account.minute.add(tokens, now), account.day.add(tokens, now), account.requests.add(1, now)
        )
        self._open[reservation.number] = (reservation, opened)
        account.use.in_flight += 1
        account.use.reserved_tokens += tokens
        account.use.reserved_total += tokens
        account.use.requests_total += 1
        return reservation

    def refusal(self, tenant: str, tokens: int, now: float) -> QuotaRefusal | None:
        """Whether a reservation of so many tokens would be refused now, and why; nothing is counted for it."""
        account = self._accounts.get(tenant)
        return None if account is None else self._refusal(account, tenant, tokens, now)

    def settle(self, reservation: Reservation, used_tokens: int) -> bool:
        """Charge the used tokens and release the others. False, without effect, if it was settled before."""
        opened = self._close(reservation)
        if opened is None:
            return False
        if used_tokens > reservation.tokens:
            self._overruns += 1
            used_tokens = reservation.tokens
        used_tokens = max(used_tokens, 0)
        opened.account.use.spent_total += used_tokens
        self._give_back(opened, reservation.tokens - used_tokens)
        return True

    def cancel(self, reservation: Reservation) -> bool:
        """Undo the reservation of a request that was refused before it ran; it does not count as a request either."""
        opened = self._close(reservation)
        if opened is None:
            return False
        opened.account.requests.correct(opened.requests, -1)
        opened.account.use.requests_total -= 1
        opened.account.use.reserved_total -= reservation.tokens
        self._give_back(opened, reservation.tokens)
        return True

    def restore(self, tenant: str, used: Iterable[Used], now: float) -> None:
        """Count usage from before this process started, until it leaves its windows."""
        account = self._accounts.get(tenant)
        if account is None:
            return
        for entry in used:
            at = now - entry.age_s
            if entry.window == "day":
                account.day.restore(entry.tokens, at)
            else:
                account.minute.restore(entry.tokens, at)
                account.requests.restore(entry.requests, at)

    def statistics(self, now: float) -> QuotaStatistics:
        return QuotaStatistics(
            tenants={
                name: msgspec.structs.replace(
                    account.use,
                    minute_tokens=account.minute.sum(now),
                    day_tokens=account.day.sum(now),
                    minute_requests=account.requests.sum(now),
                )
                for name, account in self._accounts.items()
            },
            open=len(self._open),
            overruns=self._overruns,
        )

    def limits(self, tenant: str, now: float) -> RateLimits | None:
        """What remains of the tenant's limits; None if it has no limits or no account."""
        account = self._accounts.get(tenant)
        if account is None:
            return None
        settings = account.settings
        requests = tokens = None
        if settings.requests_per_minute is not None:
            requests = _left(account.requests, settings.requests_per_minute, now)
        per_minute, per_day = settings.tokens.per_minute, settings.tokens.per_day
        if per_minute is not None:
            tokens = _left(account.minute, per_minute, now)
        if per_day is not None and (tokens is None or tokens.remaining > per_day - account.day.sum(now)):
            tokens = _left(account.day, per_day, now)
        return RateLimits(requests, tokens) if requests is not None or tokens is not None else None

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if a reservation leaked, or if more was spent than reserved."""
        open_tokens = dict.fromkeys(self._accounts, 0)
        open_requests = dict.fromkeys(self._accounts, 0)
        for reservation, _ in self._open.values():
            open_tokens[reservation.tenant] += reservation.tokens
            open_requests[reservation.tenant] += 1
        for name, account in self._accounts.items():
            for _, window, _ in account.windows:
                window.check_integrity()
            if account.use.reserved_tokens != open_tokens[name] or account.use.in_flight != open_requests[name]:
                raise IntegrityError(f"the open reservations of tenant '{name}' do not add up")
            if account.use.spent_total + account.use.reserved_tokens > account.use.reserved_total:
                raise IntegrityError(f"tenant '{name}' spent more than was reserved")

    def _refusal(self, account: _Account, tenant: str, tokens: int, now: float) -> QuotaRefusal | None:
        settings, scope = account.settings, f"tenant {tenant}"
        if settings.concurrent is not None and account.use.in_flight >= settings.concurrent:
            return QuotaRefusal("concurrent", scope, settings.concurrent, account.use.in_flight, 1, None)
        refusals: list[QuotaRefusal] = []
        for limit, window, value in account.windows:
            used, requested = window.sum(now), 1 if limit == "requests_per_minute" else tokens
            if value is None or used + requested <= value:
                continue
            refusal = QuotaRefusal(limit, scope, value, used, requested, window.fits_in_s(requested, value, now))
            if refusal.resets_in_s is None:
                return refusal
            refusals.append(refusal)
        # Report the limit that lasts longest: a client that waits for another one would be refused again.
        return max(refusals, key=lambda refusal: refusal.resets_in_s or 0.0) if refusals else None

    def _close(self, reservation: Reservation) -> _Open | None:
        _, opened = self._open.pop(reservation.number, (reservation, None))
        if opened is not None:
            opened.account.use.in_flight -= 1
            opened.account.use.reserved_tokens -= reservation.tokens
        return opened

    def _give_back(self, opened: _Open, tokens: int) -> None:
        opened.account.minute.correct(opened.minute, -tokens)
        opened.account.day.correct(opened.day, -tokens)


def _left(window: SlidingWindow, limit: int, now: float) -> WindowLimit:
    return WindowLimit(limit, max(limit - window.sum(now), 0), window.empties_in_s(now))
