"""What can be wrong with a configuration.

ConfigError     the file, or what was asked beside it, cannot be used; lists every problem at once
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, where it stands and what would be right."""

    file: Path
    line: int
    """Counted from 1; 0: not in the file."""
    column: int
    where: str
    """The key's path, such as "ladders.safe[0].to"; "" for the whole file."""
    message: str
    """What is wrong, one sentence without its full stop."""
    expected: str = ""
    """What would be right: "a duration such as \"500ms\"", "one of: small, large"."""
    suggestion: str = ""
    """The nearest valid word."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else str(self.file)
        text = f"{place}: {self.where}: {self.message}" if self.where else f"{place}: {self.message}"
        if self.expected:
            text += f"; expected {self.expected}"
        if self.suggestion:
            text += f"; did you mean '{self.suggestion}'?"
        return text


class ConfigError(Exception):
    """The configuration cannot be used. `str()` prints one problem a line, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column, problem.where)))
        super().__init__("\n".join(str(problem) for problem in self.problems))
