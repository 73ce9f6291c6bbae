"""Which requests get Anthropic's error format, and what it says."""

import msgspec
import pytest

from actors.api.errors import ErrorBody
from gateway.anthropic.errors import anthropic_error, is_anthropic
from gateway.http.request import Request


def asked(path: bytes, *headers: tuple[bytes, bytes]) -> Request:
    request = Request()
    request.path = path
    request.headers += headers
    request.end_head()
    return request


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        (b"/v1/messages", (), True),
        (b"/v1/messages/", (), True),
        (b"/v1/messages/count_tokens", (), True),
        (b"/v1/messages/batches", (), True),
        (b"/v1/models", ((b"anthropic-version", b"2023-06-01"),), True),
        (b"/v1/models", ((b"x-api-key", b"k"),), False),
        (b"/v1/messages_of_others", (), False),
        (b"/v1/chat/completions", (), False),
    ],
)
def test_the_address_or_the_version_decides(path: bytes, headers: tuple[tuple[bytes, bytes], ...], expected: bool):
    assert is_anthropic(asked(path, *headers)) is expected


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (408, "timeout_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_the_type_follows_from_the_status(status: int, kind: str) -> None:
    body = msgspec.json.decode(anthropic_error(ErrorBody(status, "ours", "some_code", "It is so."), "abc"))
    assert body == {
        "type": "error",
        "error": {"type": kind, "message": "It is so.", "code": "some_code"},
        "request_id": "abc",
    }


def test_what_else_is_known_is_kept() -> None:
    error = ErrorBody(400, "x", "c", "m", "messages", upstream_code="u", stream="s", delivered_tokens=3)
    body = msgspec.json.decode(anthropic_error(error, "abc"))
    assert {**body["error"], "type": "", "message": ""} == {
        **dict.fromkeys(("type", "message"), ""),
        "param": "messages",
        "code": "c",
        "upstream_code": "u",
        "stream": "s",
        "delivered_tokens": 3,
    }


def test_a_client_that_asks_for_a_thread_learns_in_its_own_words_that_there_is_none() -> None:
    error = ErrorBody(400, "invalid_request_error", "thread_unsupported_request", "No.", "thread")
    body = msgspec.json.decode(anthropic_error(error, "abc"))
    assert body["error"]["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
