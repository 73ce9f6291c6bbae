"""The breaker actor: all circuit breakers, and the retry budget that they share.

Its state is `policies.fallback.breaker` and `policies.fallback.retry_budget`.

The breakers' states are published. While one is closed nobody asks: the outcomes alone are sent.
"""

from collections.abc import Mapping

import structlog
import trio

from actors.kernel.actor import Actor
from actors.kernel.mailbox import Mailbox
from actors.protocol.breakers import AskPermit, BreakerMessage, Record
from config.model.routing import BreakerSettings, RetryBudgetSettings
from policies.fallback.breaker import Breaker
from policies.fallback.retry_budget import RetryBudget
from policies.model.breaker_view import BreakerView, Permit

log = structlog.get_logger()


class BreakerRegistry:
    """The breakers, for everybody to look at; only their actor changes them. Outlives its restarts."""

    def __init__(self, settings: Mapping[str, BreakerSettings], budget: RetryBudget) -> None:
        """`settings` by rung."""
        self.breakers = {rung: Breaker(each) for rung, each in settings.items()}
        self.budget = budget

    def apply_settings(self, settings: Mapping[str, BreakerSettings], budget: RetryBudgetSettings) -> None:
        """Other settings for the same rungs; what the breakers know stays."""
        for rung, each in settings.items():
            self.breakers[rung].apply_settings(each)
        self.budget.apply_settings(budget)

    def view(self, rung: str, now: float) -> BreakerView:
        """One breaker as it stands."""
        return self.breakers[rung].view(now)

    def views(self, now: float) -> dict[str, BreakerView]:
        """All of them."""
        return {rung: breaker.view(now) for rung, breaker in self.breakers.items()}


class Breakers(Actor[BreakerMessage]):
    """Answers `AskPermit`; obeys `Record`."""

    def __init__(self, mailbox: Mailbox[BreakerMessage], published: BreakerRegistry) -> None:
        super().__init__(mailbox)
        self._published = published

    def on(self, message: BreakerMessage) -> None:
        """One question or one outcome."""
        match message:
            case AskPermit(rung, is_retry, reply):
                now = trio.current_time()
                if is_retry and not self._published.budget.take(now):
                    reply.set(None)
                    return
                breaker = self._published.breakers[rung]
                answer = breaker.permit(now)
                if not reply.set(answer) and isinstance(answer, Permit):
                    breaker.record(answer, None, now)
            case Record(rung, permit, ok, at, is_retry):
                if not is_retry:
                    self._published.budget.request()
                breaker = self._published.breakers[rung]
                before = breaker.state
                breaker.record(permit, ok, at)
                if breaker.state != before:
                    log.warning("breaker_changed", rung=rung, before=before, after=breaker.state)
