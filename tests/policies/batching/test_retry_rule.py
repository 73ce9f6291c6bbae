"""Which refusals of a batch's request are final."""

import pytest

from policies.batching.retry_rule import MOST_FAILURES, retry_after


@pytest.mark.parametrize(
    ("status", "should_retry", "wait_s", "failures", "pause_s"),
    [
        (400, False, None, 0, None),
        (404, False, None, 0, None),
        (422, False, None, 0, None),
        (429, True, 3.0, 0, 3.0),
        (429, False, 7200.0, 0, 7200.0),  # a day's tokens: more of them come
        (429, False, None, 0, None),  # larger than the whole limit
        (503, True, None, 99, 1.0),
        (503, False, None, 0, None),
        (500, True, None, 1, 1.0),
        (500, True, None, MOST_FAILURES, None),
        (504, True, 2.0, MOST_FAILURES - 1, 2.0),
        (500, False, None, 1, None),
    ],
)
def test_what_is_tried_again(
    status: int, should_retry: bool, wait_s: float | None, failures: int, pause_s: float | None
) -> None:
    assert retry_after(status, should_retry=should_retry, retry_after_s=wait_s, failures=failures) == pause_s
