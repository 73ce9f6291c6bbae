"""A verdict's status, code, wait and advice reach the client."""

import pytest

from actors.api.errors import refusal_of
from policies.fallback.verdict import Verdict


@pytest.mark.parametrize(
    ("status", "wait_s", "lasting", "retry_after_s", "should_retry"),
    [
        (400, None, False, None, False),
        (429, 3.0, False, 3.0, True),
        (429, None, False, 1.0, True),
        (429, 3600.0, False, 3600.0, False),
        (503, 30.0, False, 30.0, True),
        (503, None, False, None, True),
        (503, None, True, None, False),
        # A deadline has passed while all rungs pause: the client learns how long.
        (504, 30.0, False, 30.0, True),
        (504, None, False, None, True),
        (504, 3600.0, False, 3600.0, False),
    ],
)
def test_a_verdict_is_told(
    status: int, wait_s: float | None, retry_after_s: float | None, *, lasting: bool, should_retry: bool
) -> None:
    body = refusal_of(Verdict(status=status, code="c", message="m", retry_after_s=wait_s, lasting=lasting)).body
    assert (body.status, body.code, body.message) == (status, "c", "m")
    assert (body.retry_after_s, body.should_retry) == (retry_after_s, should_retry)
