"""Which requests are of Anthropic's API, and errors in its format."""

import msgspec

from actors.api.errors import ErrorBody
from gateway.http.request import Request

MESSAGES = b"/v1/messages"
_VERSION = b"anthropic-version"
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
NO_THREADS = "thread_unsupported_request"
"""The code by which a client learns to send its conversation itself: it looks for it in `details`."""
_OURS = ("param", "code", "upstream_code", "stream", "delivered_tokens")
_encode = msgspec.json.Encoder().encode


def is_anthropic(request: Request) -> bool:
    """Whether the client expects Anthropic's format: by the address, or by the header that its clients always send."""
    path = request.path
    return path == MESSAGES or path.startswith(b"/v1/messages/") or request.header(_VERSION) is not None


def anthropic_error(error: ErrorBody, request_id: str) -> bytes:
    """The error body. The type follows from the status; `code`, `param` and others that apply are added."""
    default = "api_error" if error.status >= 500 else "invalid_request_error"
    fields: dict[str, object] = {"type": _TYPES.get(error.status, default), "message": error.message}
    for name in _OURS:
        if (value := getattr(error, name)) is not None:
            fields[name] = value
    if error.code == NO_THREADS:
        fields["details"] = {"error_code": NO_THREADS, "unsupported": [error.param]}
    return _encode({"type": "error", "error": fields, "request_id": request_id})
