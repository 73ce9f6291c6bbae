"""What can go wrong with a call to an upstream, and whose fault it is. None of it is ever told as success.

| kind | what happened | whose fault | the same rung again? | the breaker hears |
| --- | --- | --- | --- | --- |
| upstream_unreachable | no connection: refused, no name, no TLS, too slow | upstream | yes | a failure |
| upstream_error | 5xx, 408, 424, 499 | upstream | yes | a failure |
| upstream_failed | an error event in the stream | upstream | yes | a failure |
| upstream_truncated | the answer broke off, or ended without its end | upstream | yes | a failure |
| upstream_garbled | not what the OpenAI API says | upstream | yes | a failure; of a call that is none, nothing |
| upstream_misconfigured | 401, 403, 404, a redirect: our settings are wrong | operator | no | a failure |
| upstream_quota_spent | 402, `insufficient_quota`: our account there is used up | operator | no | a failure |
| upstream_busy | 429, 529 and the like | load | after the pause that it asks for | nothing |
| upstream_resting | not asked: after a failure it wants a pause | upstream | after that pause | nothing |
| upstream_rejected | 400, 413, 422 and the like | client | no | nothing |
| prompt_too_long | prompt and output do not fit into its model | client | no | nothing |
| content_filter | its content filter does not let it through | client | no | nothing |
"""

from typing import Literal

import msgspec

from actors.upstream.failures.error_kind import FailureKind, kind_of
from actors.upstream.failures.error_object import NO_OBJECT, ErrorObject, read_error
from policies.fallback.verdict import NOTHING_SAID, Said

Blame = Literal["client", "operator", "upstream", "load"]

_UNSAID_PAUSE_S = 1.0
"""For an upstream that is busy and does not say how long."""
_BLAME: dict[FailureKind, Blame] = {
    "upstream_misconfigured": "operator",
    "upstream_quota_spent": "operator",
    "upstream_busy": "load",
    "upstream_rejected": "client",
    "prompt_too_long": "client",
    "content_filter": "client",
}
"""Of the others: the upstream."""
_SENTENCES: dict[FailureKind, str] = {
    "upstream_error": "The upstream failed",
    "upstream_failed": "The upstream broke off with an error",
    "upstream_misconfigured": "The upstream is not set up rightly here",
    "upstream_quota_spent": "This gateway's account at the upstream is used up",
    "upstream_busy": "The upstream is busy",
    "upstream_rejected": "The upstream refuses this request",
    "prompt_too_long": "The prompt is too long for the upstream",
    "content_filter": "The upstream's content filter refuses this request",
}


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A call's end without a whole answer."""

    kind: FailureKind
    message: str
    """Our own sentence: it names no address and quotes nothing."""
    said: Said = NOTHING_SAID
    """The upstream's. It holds what was received until it has gone through a `Redactor`."""
    retryable: bool = True
    retry_after_s: float | None = None
    """The upstream asked to be left alone for so long."""
    by_model: bool = False
    """The server is well; its model has said what is no answer, which a prompt can bring about."""
    reached: bool = True
    """False: nothing of the request has left, so that another address may have it at once."""

    @property
    def blame(self) -> Blame:
        """Whose fault it is."""
        return _BLAME.get(self.kind, "upstream")

    @property
    def heard_as(self) -> bool | None:
        """What breakers and replicas hear of it: False, or nothing."""
        return False if self.blame in {"upstream", "operator"} and not self.by_model else None

    @property
    def refused(self) -> bool:
        """It did not begin, for a reason that says nothing against the upstream."""
        return self.blame in {"load", "client"} or self.kind == "upstream_resting"

    @property
    def told(self) -> str:
        """For the client. What an upstream says of the operator's account and settings is not for clients."""
        if self.blame == "operator":
            return f"{self.message} Tell the operator of this gateway."
        words = ": ".join([part for part in (self.said.code, self.said.words) if part])
        return f"{self.message} The upstream's words: {words}" if words else self.message


class Broken(Exception):  # noqa: N818  (named for what happened)
    """The answer cannot be gone on with."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def garbled(what: str, *, by_model: bool = False) -> Broken:
    """It does not say what the OpenAI API says."""
    message = f"The upstream's answer is not understood: {what}."
    return Broken(Failure(kind="upstream_garbled", message=message, by_model=by_model))


def truncated(what: str) -> Broken:
    """It is not whole."""
    return Broken(Failure(kind="upstream_truncated", message=f"The upstream's answer broke off: {what}."))


def of_status(status: int, body: bytes, *, pause_s: float | None = None, retryable: bool = True) -> Failure:
    """The failure of an answer that is no 200. `body`: as much of it as was read; `pause_s`: as its headers ask for."""
    error = read_error(body) or NO_OBJECT
    return _failure(kind_of(error, status), error, f"it answered {status}", pause_s=pause_s, retryable=retryable)


def of_event(data: bytes) -> Failure:
    """The failure that an error event in the stream, or an error in the place of the stream, tells of."""
    return _of_object(read_error(data) or NO_OBJECT)


def error_in(data: bytes) -> Failure | None:
    """The same for an event that may be one. None: it is none."""
    error = read_error(data, surely=False)
    return None if error is None else _of_object(error)


def _of_object(error: ErrorObject) -> Failure:
    kind = kind_of(error, None)
    if kind == "upstream_error":
        kind = "upstream_failed"
    return _failure(kind, error, f"its stream says {error.status}" if error.status is not None else "")


def _failure(
    kind: FailureKind, error: ErrorObject, fact: str, *, pause_s: float | None = None, retryable: bool = True
) -> Failure:
    pause_s = pause_s if pause_s is not None else error.retry_after_s
    blame = _BLAME.get(kind, "upstream")
    if blame == "load":
        pause_s = _UNSAID_PAUSE_S if pause_s is None else pause_s
    elif blame != "upstream":
        pause_s = None
    return Failure(
        kind=kind,
        message=f"{_SENTENCES[kind]}: {fact}." if fact else f"{_SENTENCES[kind]}.",
        said=Said(code=_told_code(error), words=error.words, param=error.param),
        retryable=retryable and blame in {"upstream", "load"},
        retry_after_s=pause_s,
    )


def _told_code(error: ErrorObject) -> str:
    """The first that is a word; a number tells more than nothing."""
    return next((code for code in error.codes if not code.isdigit()), error.codes[0] if error.codes else "")
