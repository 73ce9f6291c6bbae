"""Configuration problems in the style of compilers: message, place, the source line with a marker, and a hint."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from config.problems.errors import Problem
from config.problems.secrets import masked_line

Colour = Literal["auto", "always", "never"]
_SPAN = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'|\[\[?[^\]#]*\]?\]?|\{[^}#]*\}?|[^\s,\]}=#.]+(?:\.[0-9]+)?')
_WIDEST = 120
"""Columns of a source line that are shown; of a longer one, the part around the marker."""
_TAB = "    "


def print_problems(problems: Iterable[Problem], colour: Colour = "auto") -> None:
    """Print to standard error: with source lines on a terminal, one line a problem elsewhere."""
    if colour != "always" and not sys.stderr.isatty():
        sys.stderr.writelines(f"{problem}\n" for problem in problems)
        return
    console = Console(
        stderr=True,
        force_terminal=True if colour == "always" else None,
        color_system={"always": "standard", "auto": "auto", "never": None}[colour],
        highlight=False,
        emoji=False,
        markup=False,
    )
    shown = show_problems(problems)
    console.print(shown.plain if console.no_color else shown, end="", soft_wrap=True)


def show_problems(problems: Iterable[Problem]) -> Text:
    """All problems with their source lines, an empty line after each; styled, so the printer decides about colours."""
    files: dict[Path, list[str]] = {}
    shown = Text()
    for problem in problems:
        if problem.file not in files:
            files[problem.file] = _lines(problem.file)
        _add(shown, problem, files[problem.file])
    return shown


def _lines(file: Path) -> list[str]:
    try:
        return file.read_bytes().decode("utf-8-sig", "replace").replace("\r\n", "\n").split("\n")
    except OSError:
        return []


def _add(shown: Text, problem: Problem, lines: list[str]) -> None:
    colour = "bold red" if problem.severity == "error" else "bold yellow"
    shown.append(problem.severity, colour)
    shown.append(f": {problem.where + ': ' if problem.where else ''}{problem.message}\n", "bold")
    gutter = " " * len(str(problem.line or ""))
    place = f"{problem.file}:{problem.line}:{problem.column}" if problem.line else str(problem.file)
    shown.append(f"{gutter}--> ", "blue").append(f"{place}\n")
    if 1 <= problem.line <= len(lines):
        line = masked_line(lines, problem.line)
        begin = problem.column - 1
        match = _SPAN.match(line, begin)
        width = max(len(match.group().rstrip()) if match else 1, 1)
        if len(line) > _WIDEST:
            cut = max(min(begin - _WIDEST // 3, len(line) - _WIDEST), 0)
            line, begin = line[cut : cut + _WIDEST], begin - cut
        width = min(width, max(len(line) - begin, 1))
        indent = "".join(_TAB if letter == "\t" else " " * _cells(letter) for letter in line[:begin])
        marks = "^" * max(sum(map(_cells, line[begin : begin + width])), 1)
        shown.append(f"{gutter} |\n{problem.line} | ", "blue").append(f"{line.replace(chr(9), _TAB)}\n")
        shown.append(f"{gutter} | ", "blue").append(f"{indent}{marks}\n", colour)
    if problem.expected:
        shown.append(f"{gutter} = ", "blue").append("help", "bold").append(f": expected {problem.expected}\n")
    if problem.suggestion:
        shown.append(f"{gutter} = ", "blue").append("help", "bold").append(f": did you mean '{problem.suggestion}'?\n")
    shown.append("\n")


def _cells(letter: str) -> int:
    return Text(letter).cell_len
