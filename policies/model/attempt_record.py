"""The record of one attempt of a request."""

from typing import Literal

import msgspec

AttemptOutcome = Literal["answered", "escalated", "failed", "refused"]


class AttemptRecord(msgspec.Struct, frozen=True, gc=False):
    """One attempt on one rung, for the response's `penstock` field, the decision record and the ledger."""

    rung: str
    outcome: AttemptOutcome
    why: str
    adapter: str = ""
    """The adapter that the rung was asked to use; "" is none."""
    said: str = ""
    """An upstream's own error code and message; "" if it sent none."""
