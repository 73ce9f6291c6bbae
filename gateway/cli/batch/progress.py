"""How far a batch is: a bar on a terminal, else a line now and then."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gateway.cli.terminal import say

_LINE_EVERY_S = 5.0


class BatchProgress:
    """`with` it around the wait, and `show` it the batch."""

    def __init__(self) -> None:
        self._next_line_at = 0.0
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, batch: dict[str, Any]) -> None:
        """The batch as it is now."""
        counts = batch["request_counts"]
        done = counts["completed"] + counts["failed"]
        if self._bar is not None:
            words = batch["status"] + (f", {counts['failed']} failed" if counts["failed"] else "")
            self._bar.update(self._task, description=words, total=counts["total"] or None, completed=done)
        elif time.monotonic() >= self._next_line_at:
            self._next_line_at = time.monotonic() + _LINE_EVERY_S
            say(line_of(batch))


def line_of(batch: dict[str, Any]) -> str:
    """A batch on one line."""
    counts = batch["request_counts"]
    done = counts["completed"] + counts["failed"]
    failed = f", {counts['failed']} of them failed" if counts["failed"] else ""
    return f"{batch['id']} {batch['status']}: {done} of {counts['total']} requests{failed}"
