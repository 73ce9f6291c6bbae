"""Breakers as operators see and force them."""

import structlog
import trio

from actors.api.errors import Unavailable
from actors.breakers.breakers import BreakerMessage, BreakerRegistry, ForceBreaker, RungBreaker
from actors.kernel.actor import Mailbox, Reply
from actors.kernel.errors import ActorDied, MailboxFull
from policies.fallback.breaker import Force

DEFAULT_S = 3600.0
LONGEST_S = 86_400.0
"""Nothing stays forced that was forgotten: it ends by itself after a day."""
log = structlog.get_logger()


class BreakerControl:
    """Owns no state: the breakers' actor does."""

    def __init__(self, mailbox: Mailbox[BreakerMessage], published: BreakerRegistry) -> None:
        self._mailbox = mailbox
        self._published = published

    def views(self) -> dict[str, RungBreaker]:
        """By rung."""
        return self._published.described(trio.current_time())

    async def force(self, rung: str, how: Force, for_s: float) -> RungBreaker | None:
        """Hold it so for this time, or end that ("none"). None: no such rung. Raises Unavailable."""
        if rung not in self._published.breakers:
            return None
        reply: Reply[None] = Reply()
        try:
            self._mailbox.put_nowait(ForceBreaker(rung, how, trio.current_time() + for_s, reply))
            await reply.wait()
        except (MailboxFull, ActorDied):
            raise Unavailable("breakers_busy", "The breakers are busy; send the request again.", 1.0) from None
        log.warning("breaker_forced", rung=rung, force=how, for_s=0.0 if how == "none" else for_s, by="admin")
        return self.views()[rung]
