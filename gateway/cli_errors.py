"""What the commands say when they cannot go on.

CliError        one line for a person; `status` is the exit code
"""


class CliError(Exception):
    """A command cannot do what it was asked. The message says why, and what to do."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
