"""What can be wrong with a configuration.

ConfigError     the file, or what was asked beside it, cannot be used; lists every problem at once
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

Severity = Literal["error", "warning"]


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
    severity: Severity = "error"
    """A warning tells of what is probably not meant; the file can be used all the same."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else str(self.file)
        if self.severity == "warning":
            place += ": warning"
        text = f"{place}: {self.where}: {self.message}" if self.where else f"{place}: {self.message}"
        if self.expected:
            text += f"; expected {self.expected}"
        if self.suggestion:
            text += f"; did you mean '{self.suggestion}'?"
        return text


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """As one reads the files."""
    return tuple(sorted(problems, key=lambda each: (str(each.file), each.line, each.column, each.where)))


class ConfigError(Exception):
    """The configuration cannot be used. `str()` prints one error a line, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        found = in_order(problems)
        self.problems = tuple(problem for problem in found if problem.severity == "error")
        self.warnings = tuple(problem for problem in found if problem.severity == "warning")
        super().__init__("\n".join(str(problem) for problem in self.problems))
