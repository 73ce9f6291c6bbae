"""Whose fault a status is, and what is to be done about it."""

import pytest

from actors.upstream.failure import of_status, seconds_of


@pytest.mark.parametrize(
    ("status", "kind", "blame", "retryable"),
    [
        (301, "upstream_misconfigured", "upstream", False),
        (302, "upstream_misconfigured", "upstream", False),
        (400, "upstream_rejected", "request", False),
        (401, "upstream_misconfigured", "upstream", False),
        (403, "upstream_misconfigured", "upstream", False),
        (404, "upstream_misconfigured", "upstream", False),
        (408, "upstream_error", "upstream", True),
        (413, "upstream_rejected", "request", False),
        (422, "upstream_rejected", "request", False),
        (429, "upstream_busy", "load", True),
        (500, "upstream_error", "upstream", True),
        (503, "upstream_error", "upstream", True),
    ],
)
def test_statuses(status, kind, blame, retryable):
    failure = of_status(status, None, b"")
    assert (failure.kind, failure.blame, failure.retryable) == (kind, blame, retryable)


def test_a_prompt_that_is_too_long_there():
    assert of_status(400, None, b'{"error": {"code": "context_length_exceeded"}}').kind == "prompt_too_long"


def test_the_key_of_an_upstream_is_not_the_clients_affair():
    failure = of_status(401, None, b'{"error": {"message": "Incorrect API key: sk-123", "code": "invalid_api_key"}}')
    assert "sk-123" not in failure.message
    assert "operator" in failure.message


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        (" 2.5 ", 2.5),
        ("0", 0.0),
        ("999999", 600.0),
        ("-1", None),
        ("inf", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after(header, seconds):
    assert seconds_of(header) == seconds
    assert of_status(503, header, b"").retry_after_s == seconds
