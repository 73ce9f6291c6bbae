"""What a tenant has left of its limits, as clients are told."""

import msgspec


class WindowLimit(msgspec.Struct, frozen=True, gc=False):
    """One sliding window."""

    limit: int
    remaining: int
    resets_in_s: float
    """When all of it is free again if nothing else comes."""


class RateLimits(msgspec.Struct, frozen=True, gc=False):
    """None: not limited."""

    requests: WindowLimit | None
    tokens: WindowLimit | None
    """Of several windows the one with the least left."""
