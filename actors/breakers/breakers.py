"""Circuit breakers and the retry budget that they share: the actor that owns them, and how requests ask for permits.

The state is `policies.fallback.breaker` and `policies.fallback.retry_budget`, and it is published. No permit is
requested for a closed breaker: only outcomes are sent. The breaker of a backend that is marked down reads as open,
until the backend is ready again.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import msgspec
import structlog

from actors.api.engine_status import BackendStatus
from actors.kernel.actor import Actor, Mailbox, Reply
from actors.kernel.clock import loop_clock
from actors.kernel.errors import ActorDied, MailboxFull
from config.model.routing import BreakerSettings, RetryBudgetSettings
from policies.fallback import fallback_machine
from policies.fallback.breaker import Breaker, BreakerOpen, Force
from policies.fallback.retry_budget import RetryBudget
from policies.model.load import BreakerState, BreakerView, Permit

_SOON_S = 1.0
"""Minimum `Retry-After` for a backend that is being restarted."""
log = structlog.get_logger()


class AskPermit(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Sent only while the published breaker is not closed, or for a retry, which needs the shared budget."""

    rung: str
    is_retry: bool
    reply: Reply[Permit | BreakerOpen | None]
    """None: the retry budget is spent."""


class Record(msgspec.Struct, frozen=True, tag=True, gc=False):
    """An attempt's outcome. `ok` None: no evidence about the rung."""

    rung: str
    permit: Permit
    ok: bool | None
    at: float
    is_retry: bool
    ttft_s: float | None = None


class ForceBreaker(msgspec.Struct, frozen=True, tag=True, gc=False):
    """An operator holds the rung's breaker open or closed until then, or ends that."""

    rung: str
    how: Force
    until: float
    reply: Reply[None]


BreakerMessage = AskPermit | Record | ForceBreaker


class RungBreaker(msgspec.Struct, frozen=True):
    """One rung's breaker, for operators."""

    state: BreakerState
    opens_for_s: float
    """While open: until the first probe."""
    forced: Force
    forced_for_s: float
    succeeded: int
    """Within the breaker's `over`, as are the next two."""
    failed: int
    slow: int
    """Of those that succeeded."""
    opened_total: int
    refused_total: int


class BreakerRegistry:
    """The breakers, published: their actor changes them, and a reload their settings, without an await."""

    def __init__(
        self,
        settings: Mapping[str, BreakerSettings],
        budget: RetryBudget,
        backends: Mapping[str, BackendStatus] = MappingProxyType({}),
    ) -> None:
        """`settings` by rung. `backends`: the status of those that may be marked down."""
        self.breakers = {rung: Breaker(each) for rung, each in settings.items()}
        self.budget = budget
        self._backends = backends

    def apply_settings(self, settings: Mapping[str, BreakerSettings], budget: RetryBudgetSettings) -> None:
        """Replace the settings of the same rungs; counts and states are kept."""
        for rung, each in settings.items():
            self.breakers[rung].apply_settings(each)
        self.budget.apply_settings(budget)

    def view(self, rung: str, now: float) -> BreakerView:
        view = self.breakers[rung].view(now)
        down_s = self._down_for_s(rung, now)
        return view if down_s is None else msgspec.structs.replace(view, state="open", opens_for_s=down_s)

    def views(self, now: float) -> dict[str, BreakerView]:
        return {rung: self.view(rung, now) for rung in self.breakers}

    def described(self, now: float) -> dict[str, RungBreaker]:
        """By rung."""
        found = {}
        for rung, breaker in self.breakers.items():
            view, counted = self.view(rung, now), breaker.statistics()
            found[rung] = RungBreaker(
                state=view.state,
                opens_for_s=view.opens_for_s,
                forced=breaker.forced(now),
                forced_for_s=breaker.forced_for_s(now),
                succeeded=counted.succeeded,
                failed=counted.failed,
                slow=counted.slow,
                opened_total=counted.opened_total,
                refused_total=counted.refused_total,
            )
        return found

    def closed_permit(self, rung: str) -> Permit | None:
        """A permit of a closed breaker whose backend is not marked down; None: it is not closed."""
        backend = self._backends.get(rung)
        is_down = backend is not None and backend.down_until is not None
        return None if is_down else self.breakers[rung].closed_permit()

    def permit(self, rung: str, now: float) -> Permit | BreakerOpen:
        """A permit for one attempt; called by the actor only."""
        down_s = self._down_for_s(rung, now)
        return self.breakers[rung].permit(now) if down_s is None else BreakerOpen(down_s)

    def _down_for_s(self, rung: str, now: float) -> float | None:
        backend = self._backends.get(rung)
        until = backend.down_until if backend is not None else None
        return None if until is None else max(until - now, _SOON_S)


class Breakers(Actor[BreakerMessage]):
    """Handles `AskPermit`, `Record` and `ForceBreaker`.

    A `Record` is not lost with the actor: handled twice, a probe's outcome counts once, and an outcome under a closed
    breaker is one more sample in a window, which is harmless.
    """

    redelivered: ClassVar[tuple[type, ...]] = (Record,)

    def __init__(self, mailbox: Mailbox[BreakerMessage], published: BreakerRegistry) -> None:
        super().__init__(mailbox)
        self._published = published

    def on(self, message: BreakerMessage) -> None:
        match message:
            case AskPermit(rung, is_retry, reply):
                now, budget = self._clock(), self._published.budget
                if is_retry and not budget.take():
                    reply.set(None)
                    return
                answer = self._published.permit(rung, now)
                is_read = reply.set(answer)
                if not is_read and isinstance(answer, Permit):
                    self._published.breakers[rung].record(answer, None, now)
                if is_retry and not (is_read and isinstance(answer, Permit)):
                    budget.give_back()
            case ForceBreaker(rung, how, until, reply):
                self._published.breakers[rung].force(how, until)
                reply.set(None)
            case Record(rung, permit, ok, at, is_retry, ttft_s):
                if is_retry:
                    self._published.budget.give_back()
                breaker = self._published.breakers[rung]
                before = breaker.state
                breaker.record(permit, ok, at, ttft_s)
                if breaker.state != before:
                    log.warning("breaker_changed", rung=rung, before=before, after=breaker.state)


class Permits:
    """Permits of closed breakers, the usual case, are read from the published registry; others need the actor."""

    def __init__(self, breakers: Mailbox[BreakerMessage], published: BreakerRegistry) -> None:
        self._breakers = breakers
        self._published = published
        self._clock = loop_clock()

    def closed(self, rung: str) -> Permit | None:
        """A permit of a closed breaker; None: it is not closed."""
        return self._published.closed_permit(rung)

    async def ask(self, rung: str, *, is_retry: bool) -> Permit | fallback_machine.RungRefused:
        permit = None if is_retry else self.closed(rung)
        if permit is not None:
            return permit
        reply: Reply[Permit | BreakerOpen | None] = Reply()
        try:
            self._breakers.put_nowait(AskPermit(rung, is_retry, reply))
            match await reply.wait():
                case Permit() as permit:
                    return permit
                case BreakerOpen(retry_after_s):
                    return fallback_machine.RungRefused(why="breaker_open", retry_after_s=retry_after_s)
                case None:
                    return fallback_machine.RungRefused(why="retry_budget")
        except (MailboxFull, ActorDied) as error:
            return fallback_machine.RungRefused(why="breakers_busy", retry_after_s=1.0, message=str(error))

    def record(
        self, rung: str, permit: Permit, *, ok: bool | None, is_retry: bool, ttft_s: float | None = None
    ) -> None:
        """Record an attempt's outcome; None: no evidence about the rung."""
        record = Record(rung, permit, ok, self._clock(), is_retry, ttft_s)
        if ok is False or is_retry or permit.probe or self._published.breakers[rung].is_slow(ttft_s):
            self._breakers.put_unbounded(record)
        else:
            # This changes no breaker's state and frees no retry, so it need not wake the actor.
            self._breakers.put_deferred(record)
