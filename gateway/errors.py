"""The errors of the gateway, in addition to those of actors/api/errors.py.

Refusal (actors)
└── HttpError       refused before the service has it: invalid HTTP, unknown address, too large
    └── BadField    400 for a field of the request's body
ClientGone          the client hung up, or stopped reading
"""

from collections.abc import Iterator

from actors.api.errors import ErrorBody, Refusal


class HttpError(Refusal):
    """A refusal; `body` is what the client reads. Not retryable unless `should_retry`."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        kind: str = "invalid_request_error",
        should_retry: bool = False,
    ) -> None:
        super().__init__(ErrorBody(status, kind, code, message, param, should_retry=should_retry))


class BadField(HttpError):  # noqa: N818  (a refusal, as its base classes are)
    """A field of the body is unknown, of the wrong type, out of range or not supported."""

    def __init__(self, param: str | None, message: str, code: str = "invalid_value") -> None:
        super().__init__(400, code, message, param=param)


class ClientGone(Exception):  # noqa: N818  (an event, not a fault)
    """The client hung up, or stopped reading."""


class CliError(Exception):
    """A command failed. The message says why and what to do; `status` is the exit code."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in nested groups; an exception that is no group yields itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
