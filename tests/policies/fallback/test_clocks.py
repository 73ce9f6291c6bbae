"""Which clock fires first, and when the first output of an attempt is due."""

import pytest

from policies.fallback.clocks import Clock, Clocks

CLOCKS = Clocks(ttft_at=130.0, total_at=220.0, stall_s=15.0, ttft_s=30.0)


@pytest.mark.parametrize(
    ("begins_at", "rung_s", "also", "expected"),
    [
        # Nothing came yet: the route's `ttft`, or what the rung may have of it.
        (100.0, None, "", 130.0),
        (100.0, None, "others", 120.0),
        (120.0, None, "others", 126.667),
        (100.0, 5.0, "others", 105.0),
        (100.0, 50.0, "others", 130.0),
        (100.0, 50.0, "", 130.0),
        # A token came, and is not shown: as much time as at first, within `total`.
        (180.0, None, "others came", 210.0),
        (180.0, 5.0, "others came", 185.0),
        (210.0, None, "others came", 220.0),
        # The client has a part: at least the time that it waits for any other part.
        (180.0, None, "came committed", 210.0),
        (180.0, 5.0, "came committed", 195.0),
        (180.0, None, "others committed", 210.0),
        (210.0, None, "came committed", 220.0),
    ],
)
def test_when_the_first_output_is_due(begins_at, rung_s, also, expected) -> None:
    flags = {name: name in also.split() for name in ("others", "came", "committed")}
    due = CLOCKS.first_due(begins_at, rung_s=rung_s, **flags)
    assert due == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("now", "first_due", "stall_at", "has_started", "expected"),
    [
        # In the queue.
        (119.9, 120.0, None, False, None),
        (120.0, 120.0, None, False, "queue_timeout"),
        # On the rung, without output.
        (119.9, 120.0, None, True, None),
        (120.0, 120.0, None, True, "ttft_timeout"),
        # With output the first is over.
        (125.0, 120.0, 135.0, True, None),
        (135.0, 120.0, 135.0, True, "stall"),
        (135.0, 135.0, 135.0, True, "stall"),
        (135.0, 120.0, 135.0, False, "stall"),
        # Of two that are due, `total` is the one after which nothing follows.
        (220.0, 220.0, None, True, "total_timeout"),
        (220.0, 220.0, None, False, "total_timeout"),
        (220.0, 120.0, 220.0, True, "total_timeout"),
        (220.0, 120.0, 230.0, True, "total_timeout"),
        (230.0, 240.0, None, True, "total_timeout"),
    ],
)
def test_which_clock_fires(now, first_due, stall_at, has_started, expected: Clock | None) -> None:
    assert CLOCKS.fired(now, first_due, stall_at, has_started=has_started) == expected
    assert (CLOCKS.due(first_due, stall_at) <= now) == (expected is not None)
