"""What the commands say when they cannot go on.

CliError        one line for a person; `status` is the exit code
leaves          what went wrong, out of trio's nested groups
"""

from collections.abc import Iterator


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
