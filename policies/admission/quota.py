"""What tenants may use: reserve the worst case before the work, settle the true figure after it.

Minute and day are sliding windows that end now (in slices of one second and of five minutes), so there is no midnight
at which everybody returns at once. Tokens are dated at their reservation: what a long answer uses counts in the minute
in which it was let in. Refusals cost nothing and change nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from config.model.tenancy import TenantSettings
from policies.admission.rate_limits import RateLimits, WindowLimit
from policies.admission.sliding_window import Slice, SlidingWindow
from policies.errors import IntegrityError, UnknownTenant

Limit = Literal["tokens_per_minute", "tokens_per_day", "requests_per_minute", "concurrent"]

_MINUTE_S, _MINUTE_SLICE_S = 60.0, 1.0
_DAY_S, _DAY_SLICE_S = 86_400.0, 300.0


class Reservation(msgspec.Struct, frozen=True, gc=False):
    """Room for one request. Give it back with `settle` (or `cancel`), exactly once."""

    number: int
    tenant: str
    tokens: int


class Used(msgspec.Struct, frozen=True, gc=False):
    """What a tenant used before this process began."""

    window: Literal["minute", "day"]
    age_s: float
    tokens: int
    requests: int = 0
    """Counted by the minute only."""


class QuotaRefusal(msgspec.Struct, frozen=True, gc=False):
    """Why there is no room, and when there will be."""

    limit: Limit
    scope: str
    """Whose limit it is: "tenant acme"."""
    limit_value: int
    used: int
    """Spent and reserved within the limit's window, or requests in flight."""
    asked: int
    resets_in_s: float | None
    """When this request would fit if nothing else came. None: it never will (asked > limit), or, for `concurrent`, as
    soon as a running request ends."""

    def __str__(self) -> str:
        what = {
            "tokens_per_minute": "tokens per minute",
            "tokens_per_day": "tokens per day",
            "requests_per_minute": "requests per minute",
            "concurrent": "requests at once",
        }[self.limit]
        text = f"The limit of {self.limit_value} {what} of {self.scope} is reached: {self.used} in use"
        text += f", and this request may need up to {self.asked}" if self.limit.startswith("tokens") else ""
        if self.resets_in_s is not None:
            return f"{text}. There is room in {self.resets_in_s:.1f} s."
        if self.limit == "concurrent":
            return f"{text}. There is room as soon as one of them ends."
        return f"{text}. It never fits: lower max_tokens or shorten the prompt."


class TenantUse(msgspec.Struct, frozen=True):
    """One tenant's figures."""

    in_flight: int
    reserved_tokens: int
    """Of open reservations."""
    minute_tokens: int
    day_tokens: int
    minute_requests: int
    reserved_total: int
    spent_total: int
    requests_total: int
    refused_total: int


class QuotaStatistics(msgspec.Struct, frozen=True):
    """The book's figures."""

    tenants: Mapping[str, TenantUse]
    open: int
    overruns: int
    """Settlements that claimed more than was reserved; they are charged what was reserved."""


class _Account:
    def __init__(self, settings: TenantSettings) -> None:
        self.settings = settings
        self.minute = SlidingWindow(_MINUTE_S, _MINUTE_SLICE_S)
        self.day = SlidingWindow(_DAY_S, _DAY_SLICE_S)
        self.requests = SlidingWindow(_MINUTE_S, _MINUTE_SLICE_S)
        self.in_flight = 0
        self.reserved = 0
        self.reserved_total = 0
        self.spent_total = 0
        self.requests_total = 0
        self.refused_total = 0


class _Open(msgspec.Struct, frozen=True, gc=False):
    account: _Account
    minute: Slice
    day: Slice
    requests: Slice


class QuotaBook:
    """All tenants' accounts. `now` never runs backwards."""

    def __init__(self, tenants: Mapping[str, TenantSettings]) -> None:
        self._accounts = {name: _Account(settings) for name, settings in tenants.items()}
        self._open: dict[int, tuple[Reservation, _Open]] = {}
        self._next_number = 1
        self._overruns = 0

    def apply_settings(self, tenants: Mapping[str, TenantSettings], now: float) -> dict[str, TenantSettings]:
        """Other limits from now on; what was used within the windows stays used.

        Returns everybody who has an account. A tenant that is gone keeps its own, with its last limits, while it has
        requests under way and until its windows are empty: they can end, and coming back does not begin anew.
        """
        for name, settings in tenants.items():
            account = self._accounts.get(name)
            if account is None:
                self._accounts[name] = _Account(settings)
            else:
                account.settings = settings
        self._accounts = {
            name: account
            for name, account in self._accounts.items()
            if name in tenants or account.in_flight or account.day.sum(now) or account.requests.sum(now)
        }
        return {name: account.settings for name, account in self._accounts.items()}

    def reserve(self, tenant: str, tokens: int, now: float) -> Reservation | QuotaRefusal:
        """Room for `tokens` (prompt plus all that the choices may output). Raises UnknownTenant."""
        account = self._accounts.get(tenant)
        if account is None:
            raise UnknownTenant(tenant)
        refusal = self._refusal(account, tenant, tokens, now)
        if refusal is not None:
            account.refused_total += 1
            return refusal
        reservation = Reservation(self._next_number, tenant, tokens)
        self._next_number += 1
        opened = _Open(
            account, account.minute.add(tokens, now), account.day.add(tokens, now), account.requests.add(1, now)
        )
        self._open[reservation.number] = (reservation, opened)
        account.in_flight += 1
        account.reserved += tokens
        account.reserved_total += tokens
        account.requests_total += 1
        return reservation

    def settle(self, reservation: Reservation, used_tokens: int, now: float) -> bool:
        """Charge what was used, give back the rest. False, without effect, if that was done before."""
        opened = self._close(reservation)
        if opened is None:
            return False
        if used_tokens > reservation.tokens:
            self._overruns += 1
            used_tokens = reservation.tokens
        used_tokens = max(used_tokens, 0)
        opened.account.spent_total += used_tokens
        self._give_back(opened, reservation.tokens - used_tokens)
        return True

    def cancel(self, reservation: Reservation, now: float) -> bool:
        """Undo a reservation whose request was refused before any work: it was not even a request."""
        opened = self._close(reservation)
        if opened is None:
            return False
        opened.account.requests.correct(opened.requests, -1)
        opened.account.requests_total -= 1
        opened.account.reserved_total -= reservation.tokens
        self._give_back(opened, reservation.tokens)
        return True

    def restore(self, tenant: str, used: Iterable[Used], now: float) -> None:
        """What was used before this process began counts on, for as long as it would have counted."""
        account = self._accounts.get(tenant)
        if account is None:
            return
        for each in used:
            at = now - each.age_s
            if each.window == "day":
                account.day.restore(each.tokens, at)
            else:
                account.minute.restore(each.tokens, at)
                account.requests.restore(each.requests, at)

    def statistics(self, now: float) -> QuotaStatistics:
        """Figures at `now`."""
        return QuotaStatistics(
            tenants={
                name: TenantUse(
                    in_flight=account.in_flight,
                    reserved_tokens=account.reserved,
                    minute_tokens=account.minute.sum(now),
                    day_tokens=account.day.sum(now),
                    minute_requests=account.requests.sum(now),
                    reserved_total=account.reserved_total,
                    spent_total=account.spent_total,
                    requests_total=account.requests_total,
                    refused_total=account.refused_total,
                )
                for name, account in self._accounts.items()
            },
            open=len(self._open),
            overruns=self._overruns,
        )

    def limits(self, tenant: str, now: float) -> RateLimits | None:
        """What is left of the tenant's limits; None: it has none, or no account."""
        account = self._accounts.get(tenant)
        if account is None:
            return None
        settings = account.settings
        requests = _left(account.requests, settings.requests_per_minute, now)
        windows = (
            _left(account.minute, settings.tokens.per_minute, now),
            _left(account.day, settings.tokens.per_day, now),
        )
        tokens = min([each for each in windows if each is not None], key=lambda each: each.remaining, default=None)
        return RateLimits(requests, tokens) if requests is not None or tokens is not None else None

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if a reservation leaked, or more was spent than reserved."""
        open_tokens = dict.fromkeys(self._accounts, 0)
        open_requests = dict.fromkeys(self._accounts, 0)
        for reservation, _ in self._open.values():
            open_tokens[reservation.tenant] += reservation.tokens
            open_requests[reservation.tenant] += 1
        for name, account in self._accounts.items():
            account.minute.check_integrity()
            account.day.check_integrity()
            account.requests.check_integrity()
            if account.reserved != open_tokens[name] or account.in_flight != open_requests[name]:
                raise IntegrityError(f"the open reservations of tenant '{name}' do not add up")
            if account.spent_total + account.reserved > account.reserved_total:
                raise IntegrityError(f"tenant '{name}' spent more than was reserved")

    def _refusal(self, account: _Account, tenant: str, tokens: int, now: float) -> QuotaRefusal | None:
        settings = account.settings
        scope = f"tenant {tenant}"
        if settings.concurrent is not None and account.in_flight >= settings.concurrent:
            return QuotaRefusal("concurrent", scope, settings.concurrent, account.in_flight, 1, None)
        windows: tuple[tuple[Limit, SlidingWindow, int | None, int], ...] = (
            ("requests_per_minute", account.requests, settings.requests_per_minute, 1),
            ("tokens_per_minute", account.minute, settings.tokens.per_minute, tokens),
            ("tokens_per_day", account.day, settings.tokens.per_day, tokens),
        )
        worst: QuotaRefusal | None = None
        for limit, window, value, asked in windows:
            used = window.sum(now)
            if value is None or used + asked <= value:
                continue
            refusal = QuotaRefusal(limit, scope, value, used, asked, window.fits_in_s(asked, value, now))
            if refusal.resets_in_s is None:
                return refusal
            # The one that lasts longest is the one to tell: waiting for another would end in the next refusal.
            if worst is None or worst.resets_in_s is None or refusal.resets_in_s > worst.resets_in_s:
                worst = refusal
        return worst

    def _close(self, reservation: Reservation) -> _Open | None:
        found = self._open.pop(reservation.number, None)
        if found is None:
            return None
        opened = found[1]
        opened.account.in_flight -= 1
        opened.account.reserved -= reservation.tokens
        return opened

    def _give_back(self, opened: _Open, tokens: int) -> None:
        opened.account.minute.correct(opened.minute, -tokens)
        opened.account.day.correct(opened.day, -tokens)


def _left(window: SlidingWindow, limit: int | None, now: float) -> WindowLimit | None:
    if limit is None:
        return None
    return WindowLimit(limit, max(limit - window.sum(now), 0), window.empties_in_s(now))
