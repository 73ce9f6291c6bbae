"""The remaining requests and tokens of a tenant, for the `x-ratelimit-*` headers."""

import msgspec


class WindowLimit(msgspec.Struct, frozen=True, gc=False):
    """Limit and usage of one sliding window."""

    limit: int
    remaining: int
    resets_in_s: float
    """Time until the whole limit is available if nothing else is admitted."""


class RateLimits(msgspec.Struct, frozen=True, gc=False):
    """The windows of one tenant; None where it has no limit."""

    requests: WindowLimit | None
    tokens: WindowLimit | None
    """Of the minute and the day, the window with less remaining."""
