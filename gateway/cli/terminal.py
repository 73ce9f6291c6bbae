"""Output of the commands: text (100 columns, colours on a terminal only) or JSON."""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.text import Text

from gateway.errors import CliError

WIDTH = 100


class Page:
    """Lines to print. Styles are rich's: "bold", "green", "red", "dim"."""

    def __init__(self) -> None:
        self._lines: list[Text] = []

    def heading(self, text: str) -> None:
        """A heading, with an empty line above except on the first line."""
        if self._lines:
            self._lines.append(Text())
        self.line(text, style="bold")

    def line(self, text: str, *, indent: int = 0, hang: int = 2, style: str = "") -> None:
        """A paragraph; lines after the first are indented by `hang` more."""
        begin, rest = " " * indent, " " * (indent + hang)
        for part in textwrap.wrap(text, WIDTH, initial_indent=begin, subsequent_indent=rest) or [""]:
            self._lines.append(Text(part, style=style))

    def table(self, rows: Sequence[Sequence[str]], *, indent: int = 2) -> None:
        """A header and rows in columns; the last column is cut at the page's width."""
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for number, row in enumerate(rows):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            text = (" " * indent + "  ".join(cells)).rstrip()
            if len(text) > WIDTH:
                text = text[: WIDTH - 1] + "…"
            self._lines.append(Text(text, style="dim" if number == 0 else ""))

    def print(self) -> None:
        if hasattr(sys.stdout, "reconfigure"):
            # A character that the terminal's encoding lacks must not end the command.
            sys.stdout.reconfigure(errors="replace")
        console = Console(width=WIDTH, highlight=False, emoji=False)
        for line in self._lines:
            console.print(line, no_wrap=True, overflow="ignore", crop=False)


def say(line: str) -> None:
    """Print a line of progress to standard error."""
    print(line, file=sys.stderr, flush=True)


def write_file(path: Path, content: bytes, *, if_new: str = "") -> None:
    """Write a result. `if_new`: only into a new file, else this is what to do. Raises CliError."""
    try:
        with path.open("xb" if if_new else "wb") as file:
            file.write(content)
    except FileExistsError:
        raise CliError(f"{path} exists already{if_new}") from None
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror or error}") from None


def check_writable(path: Path, status: int = 1) -> None:
    """Try the path of a result before the work whose result would be lost. Raises CliError with this exit status."""
    is_new = not path.exists()
    try:
        path.open("ab").close()
        if is_new:
            path.unlink()
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror or error}", status) from None


def print_data(value: object) -> None:
    """Print as JSON; the same value gives the same bytes."""
    text = msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2).decode()
    sys.stdout.write(f"{text}\n")


def number(value: float) -> str:
    """At most six digits."""
    return f"{value:.6g}"


def percent(share: float) -> str:
    """With one digit after the point."""
    return f"{share * 100:.1f} %"
