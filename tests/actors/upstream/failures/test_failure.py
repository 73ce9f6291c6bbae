"""Classification of statuses: who is at fault, and whether to retry."""

import pytest

from actors.upstream.failures.failure import of_event, of_status


@pytest.mark.parametrize(
    ("status", "kind", "blame", "retryable"),
    [
        (301, "upstream_misconfigured", "operator", False),
        (302, "upstream_misconfigured", "operator", False),
        (400, "upstream_rejected", "client", False),
        (401, "upstream_misconfigured", "operator", False),
        (402, "upstream_quota_spent", "operator", False),
        (403, "upstream_misconfigured", "operator", False),
        (404, "upstream_misconfigured", "operator", False),
        (405, "upstream_misconfigured", "operator", False),
        (408, "upstream_error", "upstream", True),
        (409, "upstream_busy", "load", True),
        (413, "upstream_rejected", "client", False),
        (422, "upstream_rejected", "client", False),
        (424, "upstream_error", "upstream", True),
        (429, "upstream_busy", "load", True),
        (451, "content_filter", "client", False),
        (498, "upstream_busy", "load", True),
        (499, "upstream_error", "upstream", True),
        (500, "upstream_error", "upstream", True),
        (501, "upstream_misconfigured", "operator", False),
        (503, "upstream_error", "upstream", True),
        (520, "upstream_error", "upstream", True),
        (529, "upstream_busy", "load", True),
        (530, "upstream_error", "upstream", True),
    ],
)
def test_statuses(status, kind, blame, retryable):
    for body in (b"", b"<html><h1>Sorry</h1></html>", b"{}", b"\x1f\x8b\x08\x00\x00"):
        failure = of_status(status, body)
        assert (failure.kind, failure.fault, failure.retryable) == (kind, blame, retryable)
        assert failure.upstream_error.message == failure.upstream_error.code == ""


def test_what_is_the_operators_affair_is_not_the_clients():
    failure = of_status(401, b'{"error": {"message": "Incorrect API key: sk-123", "code": "invalid_api_key"}}')
    assert (
        failure.client_message == "The upstream rejected this gateway's settings (it answered 401). Tell the operator."
    )
    assert (failure.upstream_error.code, failure.upstream_error.message) == (
        "invalid_api_key",
        "Incorrect API key: sk-123",
    )


def test_a_pause_is_kept_where_waiting_helps():
    assert of_status(503, b"", pause_s=3.0).retry_after_s == 3.0
    assert of_status(500, b"").retry_after_s is None
    assert of_status(429, b"").retry_after_s == 1.0
    assert of_status(400, b"", pause_s=3.0).retry_after_s is None
    assert of_status(401, b"", pause_s=3.0).retry_after_s is None


def test_a_server_that_says_that_a_retry_is_no_use_is_believed():
    assert not of_status(500, b"", retryable=False).retryable


def test_an_error_of_a_stream_without_a_word_is_the_upstreams():
    for data in (b"", b"null", b"[]", b"{}", b'{"error": {}}', b'{"error": "x"}', b"\xff\xfe", b"[" * 100_000):
        failure = of_event(data)
        assert (failure.kind, failure.fault, failure.retryable) == ("upstream_failed", "upstream", True)
