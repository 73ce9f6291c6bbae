"""What the breakers are told and asked."""

import msgspec

from actors.kernel.reply import Reply
from policies.fallback.breaker import BreakerOpen
from policies.model.breaker_view import Permit


class AskPermit(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Asked only while the published breaker is not closed, or for a retry, which the shared budget pays."""

    rung: str
    is_retry: bool
    reply: Reply[Permit | BreakerOpen | None]
    """None: the retry budget is spent."""


class Record(msgspec.Struct, frozen=True, tag=True, gc=False):
    """An attempt's outcome. `ok` None says nothing about the rung."""

    rung: str
    permit: Permit
    ok: bool | None
    at: float
    is_retry: bool


BreakerMessage = AskPermit | Record
