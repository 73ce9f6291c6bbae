"""What a client is told when no rung has served: whose fault it was, over all attempts. Pure.

1. A server that was asked says that the request itself is bad (`upstream_rejected`, `content_filter`): 400. Asking
   again is no use, whatever became of the other rungs.
2. A deadline of the route has passed: 504.
3. A rung was only busy (`queue_full`, `upstream_busy`): 429, with the shortest wait. It will serve, and says when.
4. No rung ever takes such a request (`prompt_too_long`, `not_expressible` ... from all of them): 400.
5. Something failed: 503. Where all that failed is the operator's matter, asking again is no use.
"""

from collections.abc import Sequence

import msgspec

BAD_REQUEST = frozenset({"upstream_rejected", "content_filter"})
"""The request's own fault, as a server says that was given it."""
_BUSY = frozenset({"queue_full", "upstream_busy"})
_OPERATOR = frozenset({"upstream_misconfigured", "upstream_quota_spent"})
_CODES = {"prompt_too_long": "context_length_exceeded"}
"""What clients know a reason as; else it has the same name."""


class Said(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An upstream's own words on an error: bounded, and without anything of ours. All are empty if it said nothing."""

    code: str = ""
    """The upstream's own code, or its type."""
    words: str = ""
    """For the client that asked."""
    noted: str = ""
    """The words for logs and records: without what they quote of the prompt."""
    param: str | None = None


NOTHING_SAID = Said()


class Reason(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Why one attempt did not serve."""

    why: str
    message: str = ""
    retry_after_s: float | None = None
    lasting: bool = False
    """The rung takes no such request, now or later."""
    fatal: bool = False
    """The request itself is at fault: no rung will do better."""
    said: Said = NOTHING_SAID


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is told."""

    status: int
    code: str
    message: str
    retry_after_s: float | None = None
    lasting: bool = False
    """Of a 503: asking again is no use before the operator has done something."""
    said: Said = NOTHING_SAID


def verdict(reasons: Sequence[Reason], told: str, *, late: str | None) -> Verdict:
    """Of all attempts, in their order. `told`: they in one line; `late`: the deadline that has passed."""
    bad = next((reason for reason in reasons if reason.fatal or reason.why in BAD_REQUEST), None)
    if bad is not None:
        return _bad_request(bad, "The request cannot be served as it is.")
    waits = [reason.retry_after_s for reason in reasons if reason.retry_after_s is not None]
    shortest = min(waits) if waits else None
    if late == "total_timeout":
        return Verdict(status=504, code=late, message="The route's total deadline passed.", retry_after_s=shortest)
    if late is not None:
        message = "No model gave a first token within the route's deadline; try again later."
        return Verdict(status=504, code=late, message=message, retry_after_s=shortest)
    busy = [reason for reason in reasons if reason.why in _BUSY]
    if busy:
        # Of equals the last one: the rung that was asked last knows best.
        soonest = min(reversed(busy), key=_wait)
        message = soonest.message or "All queues are full; try again later."
        return Verdict(
            status=429, code=soonest.why, message=message, retry_after_s=soonest.retry_after_s, said=soonest.said
        )
    if reasons and all(reason.lasting for reason in reasons):
        return _bad_request(reasons[-1], "No rung of the route takes this request.")
    failed = [reason for reason in reasons if not reason.lasting]
    hopeless = bool(failed) and all(reason.why in _OPERATOR for reason in failed)
    what_to_do = "tell the operator of this gateway" if hopeless else "try again later"
    last = next((reason.said for reason in reversed(failed) if reason.said.words and reason.why not in _OPERATOR), None)
    message = f"No model could serve the request ({told}); {what_to_do}."
    if last is not None:
        message += f" The upstream's words: {last.words}"
    return Verdict(
        status=503,
        code="no_rung_available",
        message=message,
        retry_after_s=None if hopeless else shortest,
        lasting=hopeless,
        said=last or NOTHING_SAID,
    )


def _bad_request(reason: Reason, otherwise: str) -> Verdict:
    code = _CODES.get(reason.why, reason.why)
    return Verdict(status=400, code=code, message=reason.message or otherwise, said=reason.said)


def _wait(reason: Reason) -> float:
    return reason.retry_after_s if reason.retry_after_s is not None else float("inf")
