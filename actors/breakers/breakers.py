"""The breaker actor: all circuit breakers, and the retry budget that they share.

Its state is `policies.fallback.breaker` and `policies.fallback.retry_budget`, and it is published. While a breaker is
closed nobody asks for a permit: only the outcomes are sent. The breaker of a backend that is marked down reads as open,
until the backend is ready again.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import msgspec
import structlog
import trio

from actors.api.engine_status import BackendStatus
from actors.kernel.actor import Actor
from actors.kernel.mailbox import Mailbox
from actors.protocol.breakers import AskPermit, BreakerMessage, Record
from config.model.routing import BreakerSettings, RetryBudgetSettings
from policies.fallback.breaker import Breaker, BreakerOpen
from policies.fallback.retry_budget import RetryBudget
from policies.model.breaker_view import BreakerView, Permit

_SOON_S = 1.0
"""Until a backend that is being started again may be asked again."""
log = structlog.get_logger()


class BreakerRegistry:
    """The breakers, for everybody to read. Their actor changes them, and a reload their settings, without an await."""

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
        """Other settings for the same rungs; what the breakers know stays."""
        for rung, each in settings.items():
            self.breakers[rung].apply_settings(each)
        self.budget.apply_settings(budget)

    def view(self, rung: str, now: float) -> BreakerView:
        """One breaker's present state."""
        view = self.breakers[rung].view(now)
        down_s = self._down_for_s(rung, now)
        return view if down_s is None else msgspec.structs.replace(view, state="open", opens_for_s=down_s)

    def views(self, now: float) -> dict[str, BreakerView]:
        """All of them."""
        return {rung: self.view(rung, now) for rung in self.breakers}

    def permit(self, rung: str, now: float) -> Permit | BreakerOpen:
        """Leave for one attempt; only the actor asks."""
        down_s = self._down_for_s(rung, now)
        return self.breakers[rung].permit(now) if down_s is None else BreakerOpen(down_s)

    def _down_for_s(self, rung: str, now: float) -> float | None:
        backend = self._backends.get(rung)
        until = backend.down_until if backend is not None else None
        return None if until is None else max(until - now, _SOON_S)


class Breakers(Actor[BreakerMessage]):
    """Answers `AskPermit`; obeys `Record`.

    A `Record` is not lost with the actor: a probe's outcome counts once, and an outcome under a closed breaker is a
    sample in a window, of which one more does no harm.
    """

    redelivered: ClassVar[tuple[type, ...]] = (Record,)

    def __init__(self, mailbox: Mailbox[BreakerMessage], published: BreakerRegistry) -> None:
        super().__init__(mailbox)
        self._published = published

    def on(self, message: BreakerMessage) -> None:
        """Give a permit, or take an outcome."""
        match message:
            case AskPermit(rung, is_retry, reply):
                now = trio.current_time()
                if is_retry and not self._published.budget.take(now):
                    reply.set(None)
                    return
                answer = self._published.permit(rung, now)
                if not reply.set(answer) and isinstance(answer, Permit):
                    self._published.breakers[rung].record(answer, None, now)
            case Record(rung, permit, ok, at, is_retry):
                if not is_retry:
                    self._published.budget.request()
                breaker = self._published.breakers[rung]
                before = breaker.state
                breaker.record(permit, ok, at)
                if breaker.state != before:
                    log.warning("breaker_changed", rung=rung, before=before, after=breaker.state)
