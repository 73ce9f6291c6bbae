"""The errors of `config`.

ConfigError     the configuration, or the options of the command line, cannot be used; contains all problems
└── ConfigReaderError  it was not read to its end, for a reason that is not in it: another try may succeed
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

Severity = Literal["error", "warning"]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One problem, with its position and a way to correct it."""

    file: Path
    line: int = 0
    """Counted from 1; 0: the problem has no position."""
    column: int = 0
    where: str = ""
    """The key's path, such as "ladders.safe[0].to"; "" for the whole file."""
    message: str
    """What is wrong: one sentence without its full stop."""
    expected: str = ""
    """What would be correct: "a duration such as \"500ms\"", "one of: small, large"."""
    suggestion: str = ""
    """The most similar valid name."""
    severity: Severity = "error"
    """A warning is about something that is probably a mistake; the configuration can still be used."""

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
    """Sorted by file and position."""
    return tuple(sorted(problems, key=lambda problem: (str(problem.file), problem.line, problem.column, problem.where)))


class ConfigError(Exception):
    """The configuration cannot be used. `str()` has one line for every error, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        ordered = in_order(problems)
        self.problems = tuple(problem for problem in ordered if problem.severity == "error")
        self.warnings = tuple(problem for problem in ordered if problem.severity == "warning")
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ConfigReaderError(ConfigError):
    """The process that reads the configuration has failed: what is in it may be good."""
