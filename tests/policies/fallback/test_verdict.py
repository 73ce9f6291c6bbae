"""Whose fault it is in the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.fallback.verdict import Reason, UpstreamError, verdict

BAD = Reason(
    why="upstream_rejected",
    message="Bad.",
    lasting=True,
    upstream_error=UpstreamError(code="c", message="w", param="p"),
)
FILTER = Reason(why="content_filter", message="Filtered.", lasting=True)
LONG = Reason(why="prompt_too_long", message="Long.", lasting=True)
FULL = Reason(why="queue_full", message="Full.", retry_after_s=4.0)
BUSY = Reason(why="upstream_busy", message="Busy.", retry_after_s=2.0)
CRASHED = Reason(why="request_quarantined", message="It crashed two.", fatal=True)
DEAD = Reason(why="upstream_error", retry_after_s=9.0, upstream_error=UpstreamError(message="boom"))
KEY = Reason(why="upstream_misconfigured", upstream_error=UpstreamError(message="sk-1"))
OPEN = Reason(why="breaker_open")


@pytest.mark.parametrize(
    ("reasons", "late", "status", "code", "lasting"),
    [
        ((DEAD, BAD), None, 400, "upstream_rejected", False),
        ((BAD, DEAD), "total_timeout", 400, "upstream_rejected", False),
        ((DEAD, CRASHED), None, 422, "request_quarantined", False),
        ((FILTER, BAD), None, 400, "content_filter", False),
        ((FULL, BUSY), None, 429, "upstream_busy", False),
        ((BUSY, FULL), None, 429, "upstream_busy", False),
        ((DEAD, FULL), None, 429, "queue_full", False),
        ((FULL, DEAD), "ttft_timeout", 504, "ttft_timeout", False),
        ((LONG, LONG), None, 400, "context_length_exceeded", False),
        ((LONG, OPEN), None, 503, "no_rung_available", False),
        ((LONG, KEY), None, 503, "no_rung_available", True),
        ((KEY, KEY), None, 503, "no_rung_available", True),
        ((KEY, OPEN), None, 503, "no_rung_available", False),
        ((), None, 503, "no_rung_available", False),
    ],
)
def test_one_of_the_reasons_is_reported(
    reasons: tuple[Reason, ...], late: str | None, status: int, code: str, lasting: bool
) -> None:
    end = verdict(reasons, "a: b", late=late)
    assert (end.status, end.code, end.lasting) == (status, code, lasting)


def test_what_an_upstream_said_is_reported_with_it() -> None:
    assert verdict((DEAD, BAD), "", late=None).upstream_error == BAD.upstream_error
    assert "boom" in verdict((DEAD, KEY), "", late=None).message
    assert "sk-1" not in verdict((DEAD, KEY), "", late=None).message


@given(st.lists(st.sampled_from([FULL, BUSY, DEAD, KEY, OPEN, LONG]), min_size=1))
def test_no_longer_wait_is_reported_than_the_shortest(reasons: list[Reason]) -> None:
    end = verdict(reasons, "", late=None)
    if end.retry_after_s is not None:
        told = [FULL, BUSY] if end.status == 429 else reasons
        assert end.retry_after_s == min(r.retry_after_s for r in reasons if r in told and r.retry_after_s is not None)
