"""What commands print: pages for people (100 columns, colours on a terminal only), and data for programs."""

import sys
import textwrap
from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.text import Text

WIDTH = 100


class Page:
    """Lines to print. Styles are rich's words: "bold", "green", "red", "dim"."""

    def __init__(self) -> None:
        self._lines: list[Text] = []

    def heading(self, text: str) -> None:
        """With an empty line above, but at the top."""
        if self._lines:
            self._lines.append(Text())
        self.line(text, style="bold")

    def line(self, text: str, *, indent: int = 0, hang: int = 2, style: str = "") -> None:
        """One line, or more: those that follow are indented by `hang` more."""
        begin, rest = " " * indent, " " * (indent + hang)
        for part in textwrap.wrap(text, WIDTH, initial_indent=begin, subsequent_indent=rest) or [""]:
            self._lines.append(Text(part, style=style))

    def table(self, rows: Sequence[Sequence[str]], *, indent: int = 2) -> None:
        """A head and rows, in columns as wide as they need to be; the last one is cut where the page ends."""
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for number, row in enumerate(rows):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            text = (" " * indent + "  ".join(cells)).rstrip()
            if len(text) > WIDTH:
                text = text[: WIDTH - 1] + "…"
            self._lines.append(Text(text, style="dim" if number == 0 else ""))

    def print(self) -> None:
        """To standard output."""
        if hasattr(sys.stdout, "reconfigure"):
            # What the terminal's encoding does not have shall not end the command.
            sys.stdout.reconfigure(errors="replace")
        console = Console(width=WIDTH, highlight=False, emoji=False)
        for line in self._lines:
            console.print(line, no_wrap=True, overflow="ignore", crop=False)


def print_data(value: object) -> None:
    """As JSON, for programs; the same value gives the same bytes."""
    text = msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2).decode()
    sys.stdout.write(f"{text}\n")


def number(value: float) -> str:
    """Six digits at the most."""
    return f"{value:.6g}"


def percent(share: float) -> str:
    """One digit after the point."""
    return f"{share * 100:.1f} %"
