"""The way to the breakers: may this rung be tried, and what became of it."""

import trio

from actors.breakers.breakers import BreakerRegistry
from actors.kernel.errors import ActorDied, MailboxFull
from actors.kernel.mailbox import Mailbox
from actors.kernel.reply import Reply
from actors.protocol.breakers import AskPermit, BreakerMessage, Record
from policies.fallback import fallback_machine
from policies.fallback.breaker import BreakerOpen
from policies.model.breaker_view import Permit


class Permits:
    """Closed breakers, which are the rule, are read from the board; others are asked."""

    def __init__(self, breakers: Mailbox[BreakerMessage], published: BreakerRegistry) -> None:
        self._breakers = breakers
        self._published = published

    def closed(self, rung: str) -> Permit | None:
        """None: its breaker is not closed."""
        return self._published.view(rung, trio.current_time()).closed_permit()

    async def ask(self, rung: str, *, is_retry: bool) -> Permit | fallback_machine.RungRefused:
        """A permit, or why there is none."""
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

    def record(self, rung: str, permit: Permit, *, ok: bool | None, is_retry: bool) -> None:
        """What became of the attempt; None says nothing about the rung."""
        record = Record(rung, permit, ok, trio.current_time(), is_retry)
        if ok is False or permit.probe:
            self._breakers.put_unbounded(record)
        else:
            # It changes no breaker's state, and can wait until somebody asks.
            self._breakers.put_deferred(record)
