"""One attempt of a request, as it is remembered."""

from typing import Literal

import msgspec

AttemptOutcome = Literal["answered", "escalated", "failed", "refused"]


class AttemptRecord(msgspec.Struct, frozen=True, gc=False):
    """One try, for the response's account of itself."""

    rung: str
    outcome: AttemptOutcome
    why: str
    adapter: str = ""
    """That it was asked with."""
    said: str = ""
    """Why, in an upstream's own code and words."""
