"""Batches leave half of a tenant's limits to its other requests."""

import pytest

from policies.admission.quota import RateLimits, WindowLimit
from policies.batching.tenant_room import leaves_half


def window(remaining: int) -> WindowLimit:
    return WindowLimit(100, remaining, 1.0)


@pytest.mark.parametrize(
    ("requests", "tokens", "concurrent", "in_flight", "room"),
    [
        (None, None, None, 1000, True),
        (window(51), None, None, 0, True),
        (window(50), None, None, 0, False),
        (window(90), window(50), None, 0, False),
        (None, window(51), None, 0, True),
        (None, None, 8, 3, True),
        (None, None, 8, 4, False),
        (None, None, 1, 0, True),
        (None, None, 1, 1, False),
    ],
)
def test_half_of_each_limit_stays(requests, tokens, concurrent: int | None, in_flight: int, room: bool) -> None:
    limits = None if requests is None and tokens is None else RateLimits(requests, tokens)
    assert leaves_half(limits, concurrent, in_flight) is room
