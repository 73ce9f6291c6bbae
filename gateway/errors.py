"""The errors of the edge, beside those of actors/api/errors.py.

Refusal (actors)
└── HttpError       the edge itself refuses: no valid HTTP, no such route, too large
    └── BadField    400 that names a field of the request's body
ClientGone          the client hung up, or stopped reading: nobody is left to answer
"""

from collections.abc import Iterator

from actors.api.errors import ErrorBody, Refusal


class HttpError(Refusal):
    """What a client is told; `body` is what it reads. Not worth a retry unless it says so."""

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


class BadField(HttpError):  # noqa: N818  (an answer, as its parents are)
    """A field of the body is unknown, mistyped, out of range or not supported."""

    def __init__(self, param: str | None, message: str, code: str = "invalid_value") -> None:
        super().__init__(400, code, message, param=param)


class ClientGone(Exception):  # noqa: N818  (it is an event of the world, not a fault)
    """There is nobody left to answer."""


class CliError(Exception):
    """A command cannot do what it was asked. The message says why, and what to do."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group, however deep; of another exception, itself."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error
