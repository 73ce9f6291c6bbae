"""Whether a tenant's limits leave room for one more request of its batches. Pure."""

from policies.admission.quota import RateLimits


def leaves_half(limits: RateLimits | None, concurrent: int | None, in_flight: int) -> bool:
    """Batches leave half of each limit to the tenant's other requests. `in_flight`: requests of its batches."""
    if concurrent is not None and in_flight >= max(concurrent // 2, 1):
        return False
    windows = () if limits is None else (limits.requests, limits.tokens)
    return all(window is None or window.remaining * 2 > window.limit for window in windows)
