"""Errors of the actors and of requests.

Refusal                     a request is not served; nothing was sent, so a true status is still possible
├── InvalidRequest          400  the request cannot be served as it is
├── BadKey                  401  missing or unknown API key
│   └── KeyExpired          401  a known key whose time is over
├── Forbidden               403  a known key that does not open this: its kind, scope or role
├── UnknownModel            404  model_not_found, with the nearest name
├── NotFound                404  the name is unknown
├── Conflict                409  the present state does not allow it
├── IdempotencyKeyReused    422  the key stands for another request
├── RequestQuarantined      422  it was running in several crashes of engines
├── OverQuota               429  a tenant's limit, its scope and when it resets
├── BudgetSpent             429  a tenant's money, and when there is more
├── Busy                    429  the queue's bounds, with a measured Retry-After
├── Unavailable             503  no rung could serve, the service loads or drains
└── TooLate                 504  a deadline of the route has passed
ActorError
├── MailboxFull             a bounded mailbox took no more; the sender decides what that means
├── ActorDied               the actor died with this message in hand
├── EngineLost              an engine has ended; its supervisor starts it again
├── LedgerFileError         the file is not a ledger of this version
├── RestartsExhausted       a group of actors could not be kept alive; the supervisor above decides
└── ServiceFailed           no restart can help: the process must end
    ├── EngineLoadFailed    a model could not be loaded at start-up
    └── UpstreamKeyMissing  an upstream's key is not where the settings say
"""

import msgspec

from actors.kernel.errors import ActorError, ServiceFailed
from policies.errors import QUARANTINED
from policies.fallback.verdict import Verdict

_WORTH_WAITING_S = 60.0
"""Clients should retry automatically if the wait is not longer than this."""


SHUTTING_DOWN = "shutting_down"
"""The code of what a server ends or refuses because it stops."""


class ErrorBody(msgspec.Struct, frozen=True):
    """An error as it is sent to clients."""

    status: int
    type: str
    """OpenAI's class: invalid_request_error, authentication_error, rate_limit_error, server_error …"""
    code: str
    """Stable, snake_case."""
    message: str
    """What was wrong, and what to do."""
    param: str | None = None
    retry_after_s: float | None = None
    should_retry: bool = False
    upstream_code: str | None = None
    """An upstream's own code, if it sent one; its message is part of `message`."""
    stream: str | None = None
    """The id of a kept answer that has broken off, and ..."""
    delivered_tokens: int | None = None
    """... how many tokens of it were delivered."""

    def fields(self) -> dict[str, str | int | None]:
        """As the OpenAI API has them, with those of ours that apply."""
        fields: dict[str, str | int | None] = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        for name in ("upstream_code", "stream", "delivered_tokens"):
            if (value := getattr(self, name)) is not None:
                fields[name] = value
        return fields


class Refusal(Exception):  # noqa: N818  (it is an answer, not a fault)
    """A request that is not served. `body` is sent to the client."""

    def __init__(self, body: ErrorBody) -> None:
        super().__init__(body.message)
        self.body = body


class InvalidRequest(Refusal):
    """The request cannot be served as it is; a retry does not help."""

    def __init__(self, message: str, *, param: str | None = None, code: str = "invalid_request") -> None:
        super().__init__(ErrorBody(400, "invalid_request_error", code, message, param))


class BadKey(Refusal):
    """The key is missing or unknown."""

    def __init__(self, *, missing: bool) -> None:
        message = (
            "An API key is needed: send it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'."
            if missing
            else "Incorrect API key: it is unknown, or was revoked. Check the key that you send."
        )
        super().__init__(ErrorBody(401, "authentication_error", "invalid_api_key", message))


class KeyExpired(BadKey):
    """The key is known, and its time is over."""

    def __init__(self) -> None:
        message = "This API key has expired. Ask the operator of this server for a new one."
        Refusal.__init__(self, ErrorBody(401, "authentication_error", "api_key_expired", message))


class Forbidden(Refusal):
    """The key is known but does not give access."""

    def __init__(self, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(ErrorBody(403, "permission_error", code, message, param))


class UnknownModel(Refusal):
    """An unknown model name."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorBody(404, "invalid_request_error", "model_not_found", message, "model"))


class NotFound(Refusal):
    """The name is unknown."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(ErrorBody(404, "invalid_request_error", code, message))


class Conflict(Refusal):
    """The present state does not allow it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(ErrorBody(409, "invalid_request_error", code, message))


class IdempotencyKeyReused(Refusal):
    """The Idempotency-Key stands for another request."""

    def __init__(self) -> None:
        message = (
            "This Idempotency-Key was used for another request. Use a new key for each request, and the same key only "
            "for a retry with the same body."
        )
        super().__init__(ErrorBody(422, "invalid_request_error", "idempotency_key_reused", message))


class RequestQuarantined(Refusal):
    """It was running in several crashes of engines."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorBody(422, "invalid_request_error", QUARANTINED, message))


class OverQuota(Refusal):
    """A tenant has used up one of its limits."""

    def __init__(self, code: str, message: str, resets_in_s: float | None) -> None:
        retry = resets_in_s is not None and resets_in_s <= _WORTH_WAITING_S
        super().__init__(
            ErrorBody(429, "rate_limit_error", code, message, retry_after_s=resets_in_s, should_retry=retry)
        )


class BudgetSpent(Refusal):
    """The tenant's remaining budget does not cover the request."""

    def __init__(self, message: str, resets_in_s: float) -> None:
        kind, code, retry = "insufficient_quota", "budget_spent", resets_in_s <= _WORTH_WAITING_S
        super().__init__(ErrorBody(429, kind, code, message, retry_after_s=resets_in_s, should_retry=retry))


class Busy(Refusal):
    """The queue is full for this tier."""

    def __init__(self, code: str, message: str, retry_after_s: float) -> None:
        super().__init__(
            ErrorBody(429, "rate_limit_error", code, message, retry_after_s=retry_after_s, should_retry=True)
        )


class Unavailable(Refusal):
    """No backend can serve now."""

    def __init__(self, code: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(ErrorBody(503, "server_error", code, message, retry_after_s=retry_after_s, should_retry=True))


class TooLate(Refusal):
    """A deadline of the route passed before any content."""

    def __init__(self, code: str, message: str, retry_after_s: float | None = None) -> None:
        """`retry_after_s`: the pause that a rung has requested, if any."""
        super().__init__(ErrorBody(504, "server_error", code, message, retry_after_s=retry_after_s, should_retry=True))


TOO_BUSY = "The server is too busy to take this request; try again."
"""The message where a bounded mailbox took no more."""


def ledger_unavailable() -> Unavailable:
    """No answer is sent without a committed ledger entry."""
    return Unavailable("ledger_unavailable", "The usage could not be written down; try again.", 1.0)


def refusal_of(end: Verdict) -> Refusal:
    """The refusal of a request that no rung has served."""
    wait_s = end.retry_after_s
    worth_waiting = wait_s is None or wait_s <= _WORTH_WAITING_S
    match end.status:
        case 400:
            refusal: Refusal = InvalidRequest(end.message, param=end.upstream_error.param, code=end.code)
        case 422:
            refusal = RequestQuarantined(end.message)
        case 429:
            refusal = Busy(end.code, end.message, wait_s if wait_s is not None else 1.0)
        case 504:
            refusal = TooLate(end.code, end.message, wait_s)
        case _:
            refusal = Unavailable(end.code, end.message, wait_s)
    should_retry = refusal.body.should_retry and worth_waiting and not end.lasting
    refusal.body = msgspec.structs.replace(
        refusal.body, should_retry=should_retry, upstream_code=end.upstream_error.code or None
    )
    return refusal


class EngineLost(ActorError):  # noqa: N818  (named for what happened)
    """An engine has ended."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class LedgerFileError(ActorError):
    """The file is not a ledger of this version."""


class EngineLoadFailed(ServiceFailed):
    """A model could not be loaded when the service started."""


class UpstreamKeyMissing(ServiceFailed):
    """An upstream's key cannot be read from where the settings say, or is invalid."""
