"""What can go wrong with a call to an upstream, and whose fault it is. None of it is ever told as success.

| kind | what happened | the same rung again? | the breaker hears |
| --- | --- | --- | --- |
| upstream_unreachable | no connection: refused, no name, no TLS, too slow | yes | a failure |
| upstream_error | 5xx or 408 | yes | a failure |
| upstream_failed | an error event in the stream | yes | a failure |
| upstream_truncated | the answer broke off, or ended without its end | yes | a failure |
| upstream_garbled | not what the OpenAI API says | yes | a failure |
| upstream_misconfigured | 401, 403, 404, 405, a redirect: our settings are wrong | no | a failure |
| upstream_busy | 429 | not before its Retry-After | nothing |
| upstream_rejected | 400, 413, 422 and the like: it will not answer this request | no | nothing |
"""

import re
from typing import Literal

import msgspec

FailureKind = Literal[
    "upstream_unreachable",
    "upstream_error",
    "upstream_failed",
    "upstream_truncated",
    "upstream_garbled",
    "upstream_misconfigured",
    "upstream_busy",
    "upstream_rejected",
    "prompt_too_long",
]
Blame = Literal["upstream", "load", "request"]

_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LONGEST_WAIT_S = 600.0
"""A Retry-After beyond this is not believed."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A call's end without a whole answer. `message` may reach a client: it names no address and quotes no text."""

    kind: FailureKind
    message: str
    blame: Blame = "upstream"
    retryable: bool = True
    retry_after_s: float | None = None
    """The upstream asked to be left alone for so long."""
    reached: bool = True
    """False: nothing of the request has left, so that another address may have it at once."""


class Broken(Exception):  # noqa: N818  (named for what happened)
    """The answer cannot be gone on with."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def garbled(what: str) -> Broken:
    """It does not say what the OpenAI API says."""
    return Broken(Failure(kind="upstream_garbled", message=f"The upstream's answer is not understood: {what}."))


def truncated(what: str) -> Broken:
    """It is not whole."""
    return Broken(Failure(kind="upstream_truncated", message=f"The upstream's answer broke off: {what}."))


class _Told(msgspec.Struct):
    code: str | int | None = None
    type: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Told | str | None = None


_decoder = msgspec.json.Decoder(_ErrorBody)


def of_status(status: int, retry_after: str | None, body: bytes) -> Failure:
    """The failure of an answer that is no 200. `retry_after`: the header; `body`: as much of it as was read."""
    wait = seconds_of(retry_after)
    word = _word_of(body)
    said = f"it answered {status}" + (f" ({word})" if word else "")
    if status == 429:
        return Failure(
            kind="upstream_busy",
            message=f"The upstream is busy: {said}.",
            blame="load",
            retry_after_s=wait if wait is not None else 1.0,
        )
    if status >= 500 or status == 408:
        return Failure(kind="upstream_error", message=f"The upstream failed: {said}.", retry_after_s=wait)
    if status in {401, 403, 404, 405} or status < 400:
        return Failure(
            kind="upstream_misconfigured",
            message=f"The upstream is not set up rightly here: {said}. Tell the operator of this gateway.",
            retryable=False,
        )
    kind: FailureKind = "prompt_too_long" if word == "context_length_exceeded" else "upstream_rejected"
    return Failure(kind=kind, message=f"The upstream takes no such request: {said}.", blame="request", retryable=False)


def of_event(data: bytes) -> Failure:
    """The failure that an error event in the stream tells of."""
    word = _word_of(data)
    said = f" ({word})" if word else ""
    return Failure(kind="upstream_failed", message=f"The upstream broke off with an error{said}.")


def seconds_of(retry_after: str | None) -> float | None:
    """A Retry-After in seconds; None for a date or anything else: the clocks of two machines differ."""
    if retry_after is None or not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", retry_after.strip()):
        return None
    return min(float(retry_after), _LONGEST_WAIT_S)


def _word_of(body: bytes) -> str | None:
    """The error's stable word, if it has one. Its message may hold anything, and is not passed on."""
    try:
        error = _decoder.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(error, _Told):
        for word in (error.code, error.type):
            if isinstance(word, str) and _WORD.fullmatch(word):
                return word
    return None
