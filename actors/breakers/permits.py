"""How a request's task asks for a permit to try a rung, and reports the attempt's outcome."""

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
    """A closed breaker, the usual case, is read from the published registry; for any other one the actor is asked."""

    def __init__(self, breakers: Mailbox[BreakerMessage], published: BreakerRegistry) -> None:
        self._breakers = breakers
        self._published = published

    def closed(self, rung: str) -> Permit | None:
        """A permit of a closed breaker; None: it is not closed."""
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
        """The attempt's outcome; None says nothing about the rung."""
        record = Record(rung, permit, ok, trio.current_time(), is_retry)
        if ok is False or permit.probe:
            self._breakers.put_unbounded(record)
        else:
            # It changes no breaker's state: it may wait until the actor wakes for another message.
            self._breakers.put_deferred(record)
