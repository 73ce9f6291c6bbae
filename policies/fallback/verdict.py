"""The error that a client receives when no rung has served, derived from all attempts. Pure.

1. An upstream has called the request itself invalid (`upstream_rejected`, `content_filter`): 400. It has crashed
   engines (`request_quarantined`): 422. A retry is useless, whatever the other rungs did.
2. A deadline of the route has passed: 504.
3. A rung was only busy (`queue_full`, `wait_too_long`, `upstream_busy`): 429, with the shortest wait.
4. No rung ever takes such a request (`prompt_too_long`, `not_expressible` ... from all of them): 400.
5. Anything else has failed: 503. If the operator must act on every failure, a retry is useless.
"""

from collections.abc import Sequence

import msgspec

from policies.errors import QUARANTINED

BAD_REQUEST = frozenset({"upstream_rejected", "content_filter"})
"""An upstream has called the request invalid."""
_BUSY = frozenset({"queue_full", "wait_too_long", "upstream_busy"})
_OPERATOR = frozenset({"upstream_misconfigured", "upstream_quota_spent"})
_NEVER = float("inf")
_CODES = {"prompt_too_long": "context_length_exceeded"}
"""Reasons whose error code differs from their name."""


class UpstreamError(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An upstream's own error, with bounded texts and without its key. All fields are empty if it sent none."""

    code: str = ""
    """The upstream's own code, or its type."""
    message: str = ""
    """The message for the client."""
    log_message: str = ""
    """The message for logs and records, without quotes of the prompt."""
    param: str | None = None


NO_UPSTREAM_ERROR = UpstreamError()


class Reason(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Why one attempt did not succeed."""

    why: str
    message: str = ""
    retry_after_s: float | None = None
    lasting: bool = False
    """The rung takes no such request, now or later: "prompt_too_long", "not_expressible" ..."""
    fatal: bool = False
    """The request is at fault: no rung will succeed."""
    upstream_error: UpstreamError = NO_UPSTREAM_ERROR


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The error for the client."""

    status: int
    code: str
    message: str
    retry_after_s: float | None = None
    lasting: bool = False
    """Of a 503: a retry is useless until the operator has acted."""
    upstream_error: UpstreamError = NO_UPSTREAM_ERROR


def verdict(reasons: Sequence[Reason], attempts: str, *, late: str | None) -> Verdict:
    """`reasons`: of all attempts in order; `attempts`: them as text; `late`: the deadline that has passed."""
    bad = next((reason for reason in reasons if reason.fatal or reason.why in BAD_REQUEST), None)
    if bad is not None:
        return _bad_request(bad, "The request cannot be served as it is.")
    waits = [reason.retry_after_s for reason in reasons if reason.retry_after_s is not None]
    shortest = min(waits) if waits else None
    if late is not None:
        message = "No model gave a first token within the route's deadline; try again later."
        if late == "total_timeout":
            message = "The answer was not complete within the route's time limit; try again, or lower max_tokens."
        return Verdict(status=504, code=late, message=message, retry_after_s=shortest)
    busy = [reason for reason in reasons if reason.why in _BUSY]
    if busy:
        # Of equal waits that of the last rung, which is the most recent one.
        soonest = min(reversed(busy), key=lambda each: _NEVER if each.retry_after_s is None else each.retry_after_s)
        message = soonest.message or "All queues are full; try again later."
        wait_s, own = soonest.retry_after_s, soonest.upstream_error
        return Verdict(status=429, code=soonest.why, message=message, retry_after_s=wait_s, upstream_error=own)
    if reasons and all(reason.lasting for reason in reasons):
        return _bad_request(reasons[-1], "None of the models behind this route can take this request.")
    failed = [reason for reason in reasons if not reason.lasting]
    hopeless = bool(failed) and all(reason.why in _OPERATOR for reason in failed)
    what_to_do = "tell the operator of this gateway" if hopeless else "try again later"
    said = [each.upstream_error for each in failed if each.upstream_error.message and each.why not in _OPERATOR]
    message = f"No model could serve the request ({attempts}); {what_to_do}."
    if said:
        message += f" The upstream's words: {said[-1].message}"
    return Verdict(
        status=503,
        code="no_rung_available",
        message=message,
        retry_after_s=None if hopeless else shortest,
        lasting=hopeless,
        upstream_error=said[-1] if said else NO_UPSTREAM_ERROR,
    )


def _bad_request(reason: Reason, otherwise: str) -> Verdict:
    code = _CODES.get(reason.why, reason.why)
    status = 422 if code == QUARANTINED else 400
    return Verdict(status=status, code=code, message=reason.message or otherwise, upstream_error=reason.upstream_error)
