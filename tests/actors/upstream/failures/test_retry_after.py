"""Requested pauses: all forms are parsed, and all are bounded."""

import pytest

from actors.upstream.failures.retry_after import requested_pause_s

DATE = {"date": "Sun, 06 Nov 1994 08:49:37 GMT"}
SENT_AT = 784_111_777.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "999999"}, 600.0),
        ({"retry-after": "9" * 18}, 600.0),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "2s"}, 2.0),
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": "250ms"}, 0.25),
        # Two headers joined by a proxy; quotes; words; ISO 8601.
        ({"retry-after": "9, 9"}, 9.0),
        ({"retry-after": "9,soon"}, 9.0),
        ({"retry-after": "," * 60}, None),
        ({"retry-after": '"9"'}, 9.0),
        ({"retry-after": "9 seconds"}, 9.0),
        ({"retry-after": "9 s"}, 9.0),
        ({"retry-after": "1 minute 30 seconds"}, 90.0),
        ({"retry-after": "1994-11-06T08:50:07Z", **DATE}, 30.0),
        ({"retry-after": "1994-11-06T09:50:07+01:00", **DATE}, 30.0),
        ({"retry-after": "1994-11-06T08:50:07", **DATE}, 30.0),
        ({"retry-after": "1994-11-06T99:50:07Z", **DATE}, None),
        # Unix timestamps in seconds or milliseconds.
        ({"retry-after": "784111807", **DATE}, 600.0),
        ({"retry-after": "1764370030", "date": "Fri, 28 Nov 2025 22:46:40 GMT"}, 30.0),
        ({"retry-after": "1764370030000", "date": "Fri, 28 Nov 2025 22:46:40 GMT"}, 30.0),
        ({"retry-after": "1764369000", "date": "Fri, 28 Nov 2025 22:46:40 GMT"}, 0.0),
        # The three date formats.
        ({"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT", **DATE}, 30.0),
        ({"retry-after": "Sunday, 06-Nov-94 08:50:07 GMT", **DATE}, 30.0),
        ({"retry-after": "Sun Nov  6 08:50:07 1994", **DATE}, 30.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT", "date": "Sun Nov  6 08:49:37 1994"}, 30.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:00:00 GMT", **DATE}, 0.0),
        ({"retry-after": "Sun, 06 Nov 2094 08:00:00 GMT", **DATE}, 600.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT", "date": "yesterday"}, 30.0),
        ({"retry-after": "Sun, 99 Nov 1994 08:50:07 GMT", **DATE}, None),
        ({"retry-after": "Sun, 06 Nov 1994 99:50:07 GMT", **DATE}, None),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "-5", "retry-after": "1"}, 1.0),
        # Exhausted rate limits.
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m2.5s"}, 62.5),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9d"}, 600.0),
        ({"x-ratelimit-remaining-requests": "4", "x-ratelimit-reset-requests": "1s"}, None),
        ({"x-ratelimit-reset-requests": "1s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "62"}, 62.0),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1764370030000",
                "date": "Fri, 28 Nov 2025 22:46:40 GMT",
            },
            30.0,
        ),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1994-11-06T08:50:07Z"}, 30.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s", "retry-after": "9"}, 9.0),
    ],
)
def test_what_headers_ask_for(headers, seconds):
    assert requested_pause_s(headers, SENT_AT, limits=True) == (None if seconds is None else pytest.approx(seconds))


def test_our_own_clock_stands_in_for_a_missing_date():
    assert requested_pause_s({"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT"}, SENT_AT + 10) == 20.0


def test_limits_say_nothing_of_an_answer_that_was_not_refused_for_them():
    assert requested_pause_s({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, SENT_AT) is None
