"""Kinds of failures of upstream calls, and who is at fault. A failed call is never reported as a success.

| kind | cause | at fault | retried on the same rung | outcome for the breaker |
| --- | --- | --- | --- | --- |
| upstream_unreachable | no connection: refused, unknown host, TLS error, timeout | upstream | yes | a failure |
| upstream_error | 5xx, 408, 424, 499 | upstream | yes | a failure |
| upstream_failed | an error event in the stream | upstream | yes | a failure |
| upstream_truncated | the answer was cut off, or has no finish reason | upstream | yes | a failure |
| upstream_garbled | violates the OpenAI API | upstream | yes | a failure; none if the model caused it |
| upstream_misconfigured | 401, 403, 404, a redirect: wrong settings here | operator | no | a failure |
| upstream_quota_spent | 402, `insufficient_quota`: the gateway's account is used up | operator | no | a failure |
| upstream_busy | 429, 529 and similar | load | after the requested pause | none |
| upstream_resting | not called: it requested a pause after a failure | upstream | after the pause | none |
| upstream_rejected | 400, 413, 422 and similar | client | no | none |
| prompt_too_long | prompt and output exceed its model's context | client | no | none |
| content_filter | blocked by its content filter | client | no | none |
"""

from typing import Literal

import msgspec

from actors.upstream.failures.error_kind import FailureKind, kind_of
from actors.upstream.failures.error_object import NO_OBJECT, ErrorObject, read_error
from policies.fallback.verdict import NO_UPSTREAM_ERROR, UpstreamError

Fault = Literal["client", "operator", "upstream", "load"]

_DEFAULT_PAUSE_S = 1.0
"""Pause for a busy upstream that states none."""
_FAULT: dict[FailureKind, Fault] = {
    "upstream_misconfigured": "operator",
    "upstream_quota_spent": "operator",
    "upstream_busy": "load",
    "upstream_rejected": "client",
    "prompt_too_long": "client",
    "content_filter": "client",
}
"""For all other kinds: the upstream."""
_SENTENCES: dict[FailureKind, str] = {
    "upstream_error": "The upstream failed",
    "upstream_failed": "The upstream ended its answer with an error",
    "upstream_misconfigured": "The upstream rejected this gateway's settings",
    "upstream_quota_spent": "This gateway's account at the upstream is used up",
    "upstream_busy": "The upstream is busy",
    "upstream_rejected": "The upstream refuses this request",
    "prompt_too_long": "The prompt is too long for the upstream",
    "content_filter": "The upstream's content filter refuses this request",
}


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a call without a complete answer."""

    kind: FailureKind
    message: str
    """The gateway's own sentence: no addresses, no quotes."""
    reason: str = ""
    """The cause, for the log and the decision record; clients read `message`."""
    status: int | None = None
    """The HTTP status, of the response or in the error's text."""
    upstream_error: UpstreamError = NO_UPSTREAM_ERROR
    """The upstream's text. Unredacted until it has passed a `Redactor`."""
    retryable: bool = True
    retry_after_s: float | None = None
    """Pause that the upstream requests."""
    by_model: bool = False
    """The server works, but its model produced an invalid answer, which a prompt can cause."""
    reached: bool = True
    """False: no byte of the request was sent, so that another address can be tried at once."""

    @property
    def fault(self) -> Fault:
        """Who is at fault."""
        return _FAULT.get(self.kind, "upstream")

    @property
    def breaker_outcome(self) -> bool | None:
        """The outcome for breakers and replicas: False (a failure), or None (no outcome)."""
        return False if self.fault in {"upstream", "operator"} and not self.by_model else None

    @property
    def refused(self) -> bool:
        """The call did not start, for a reason that is no failure of the upstream."""
        return self.fault in {"load", "client"} or self.kind == "upstream_resting"

    @property
    def client_message(self) -> str:
        """The message for the client. It excludes what an upstream says about the operator's account and settings."""
        if self.fault == "operator":
            return f"{self.message} Tell the operator."
        words = ": ".join([part for part in (self.upstream_error.code, self.upstream_error.message) if part])
        return f"{self.message} The upstream's words: {words}" if words else self.message


class UpstreamCallError(Exception):
    """The call has failed; the answer cannot be continued."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def garbled(what: str, *, by_model: bool = False) -> UpstreamCallError:
    """The response does not follow the OpenAI API."""
    message = f"The upstream sent an invalid answer: {what}."
    return UpstreamCallError(Failure(kind="upstream_garbled", message=message, by_model=by_model))


def truncated(what: str) -> UpstreamCallError:
    """The response is incomplete."""
    return UpstreamCallError(
        Failure(kind="upstream_truncated", message=f"The upstream's answer is incomplete: {what}.")
    )


def rejected(status: int | None) -> Failure:
    """The upstream does not take what the request contains."""
    fact = f" (it answered {status})" if status is not None else ""
    message = f"{_SENTENCES['upstream_rejected']}{fact}."
    return Failure(kind="upstream_rejected", message=message, status=status, retryable=False)


def of_status(status: int, body: bytes, *, pause_s: float | None = None, retryable: bool = True) -> Failure:
    """The failure for a status other than 200. `body`: what was read of it; `pause_s`: requested by its headers."""
    error = read_error(body) or NO_OBJECT
    kind = kind_of(error, status)
    return _failure(kind, error, f"it answered {status}", status=status, pause_s=pause_s, retryable=retryable)


def of_event(data: bytes) -> Failure:
    """The failure for an error event in a stream, or for an error in place of the stream."""
    return _of_object(read_error(data) or NO_OBJECT)


def error_in(data: bytes) -> Failure | None:
    """The failure for an event that may be an error. None: it is not."""
    error = read_error(data, is_error=False)
    return None if error is None else _of_object(error)


def _of_object(error: ErrorObject) -> Failure:
    kind = kind_of(error, None)
    if kind == "upstream_error":
        kind = "upstream_failed"
    fact = f"its stream says {error.status}" if error.status is not None else ""
    return _failure(kind, error, fact, status=error.status)


def _failure(
    kind: FailureKind,
    error: ErrorObject,
    fact: str,
    *,
    status: int | None,
    pause_s: float | None = None,
    retryable: bool = True,
) -> Failure:
    pause_s = pause_s if pause_s is not None else error.retry_after_s
    blame = _FAULT.get(kind, "upstream")
    if blame == "load":
        pause_s = _DEFAULT_PAUSE_S if pause_s is None else pause_s
    elif blame != "upstream":
        pause_s = None
    return Failure(
        kind=kind,
        message=f"{_SENTENCES[kind]} ({fact})." if fact else f"{_SENTENCES[kind]}.",
        status=status,
        upstream_error=UpstreamError(code=_shown_code(error), message=error.words, param=error.param),
        retryable=retryable and blame in {"upstream", "load"},
        retry_after_s=pause_s,
    )


def _shown_code(error: ErrorObject) -> str:
    """The first code that is a word, else a number."""
    return next((code for code in error.codes if not code.isdigit()), error.codes[0] if error.codes else "")
