"""Request headers that change something, and response headers, by their names."""

from collections.abc import Mapping
from typing import Any

from gateway.anthropic.rate_limits import message_limit_lines
from gateway.openai.responses.headers import SERVED_NAMES, limit_fields
from gateway.openapi.operation import Parameter
from policies.admission.quota import RateLimits, WindowLimit

_FLAG = {"type": "string", "enum": ["true", "false"]}
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key", "header", {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    "A retry with the same key and body gets the answer of the first request.",
)  # fmt: skip
RESUMABLE = Parameter(
    "x-penstock-resumable", "header", _FLAG,
    "`true`: the answer of a stream is kept, so that it can be read on after a lost connection.",
)  # fmt: skip
BACKGROUND = Parameter(
    "x-penstock-background", "header", _FLAG,
    "`true`: the server answers 202 with an id at once, under which the answer is found.",
)  # fmt: skip
LAST_EVENT_ID = Parameter(
    "Last-Event-ID", "header", {"type": "string", "pattern": "^[0-9]{1,15}$"},
    "The `id` of the last event that came: the stream goes on behind it.",
)  # fmt: skip
POLICY_TAGS = Parameter(
    "x-penstock-tags", "header", {"type": "string"}, "Words for the policy, separated by commas: at most 16 of 64 "
    "characters each.",
)  # fmt: skip
KEEPING = (IDEMPOTENCY_KEY, RESUMABLE, BACKGROUND, POLICY_TAGS)
"""Of requests whose answer can outlive its connection."""

_WINDOW = WindowLimit(1, 1, 1.0)
_LIMITS = RateLimits(_WINDOW, _WINDOW)
_SERVED_TEXTS = {
    "route": "The policy's route that matched.",
    "rung": "The engine or upstream that answered.",
    "adapter": "The adapter that answered.",
    "model-asked": "The model that was asked for.",
    "model-served": "The model that answered.",
    "why": "Why this rung answered.",
    "degraded": "In what the answer is less than asked for.",
    "tier": "The tier in which it was served, if a spent budget has changed it.",
    "mark": "The mark of the rung.",
}


def _text(text: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "string"}}


def _number(text: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "integer", "minimum": 0}}


_LIMIT_HEADERS = {
    f"x-ratelimit-{name.replace('_', '-')}": _text("When the whole limit is available again, such as `1m30s`.")
    if name.startswith("reset")
    else _number("Of the tenant's rate limit, where it has one.")
    for name in limit_fields(_LIMITS)
}
_MESSAGE_LIMITS = [line.partition(":")[0] for line in message_limit_lines(_LIMITS, 0.0).decode().splitlines()]
SERVED = tuple(f"x-penstock-{name}" for name in SERVED_NAMES)
"""Of answers that a model made."""
DECIDED = ("x-request-id", "x-penstock-policy", "x-penstock-arm", "x-penstock-schema-passed-over", *_LIMIT_HEADERS)
"""Of all answers to requests of the API, errors included."""
MESSAGES = ("request-id", *_MESSAGE_LIMITS)
"""In addition, for clients of Anthropic's API."""
FAILED = ("retry-after", "retry-after-ms", "x-should-retry")
"""Of errors, in addition."""
READ_AGAIN = ("x-penstock-stream", "idempotent-replayed")
"""Of kept answers, in addition."""

HEADERS: Mapping[str, Mapping[str, Any]] = {
    "x-request-id": _text("The id of the request, in the log, in records and in the ledger."),
    "request-id": _text("The same, for clients of Anthropic's API."),
    "x-penstock-policy": _text("The digest of the policy that decided."),
    "x-penstock-arm": _text("The experiment and its arm, if the request takes part in one."),
    "x-penstock-schema-passed-over": _text("Parts of the request's JSON Schemas that are not enforced."),
    "x-penstock-stream": _text("The id of a kept answer."),
    "idempotent-replayed": _text("`true`: the answer was there before this request."),
    **{f"x-penstock-{name}": _text(_SERVED_TEXTS[name]) for name in SERVED_NAMES},
    **_LIMIT_HEADERS,
    **{name: _text("Of the tenant's rate limit, where it has one.") for name in _MESSAGE_LIMITS},
    "retry-after": _number("Seconds after which a retry may succeed."),
    "retry-after-ms": _number("The same in milliseconds."),
    "x-should-retry": {"description": "What the official clients decide on.", "schema": _FLAG},
    "etag": _text("Changes with the content; send it back as `If-None-Match`."),
    "www-authenticate": _text("The scheme of keys."),
}
"""Response headers, as the document has them."""
