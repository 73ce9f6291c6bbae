"""One batch that has not ended, as its actor has it in memory."""

from collections import Counter, deque

import trio

from actors.batches.ports import BatchAnswer
from actors.batches.records import BatchRecord, BatchState, WaitingLine

FETCHED = 16
"""Requests read from the store at once, and ..."""
LOW = 8
"""... as soon as fewer than this many are left."""


class RunningBatch:
    """Changed by the actor of batches only."""

    def __init__(self, record: BatchRecord) -> None:
        self.record = record
        self.lines: deque[WaitingLine] = deque()
        """Not begun yet: those to be tried again first."""
        self.after = 0
        """The last line that was read from the store."""
        # One that is cancelled before its file was read lists its requests, too.
        self.validating = record.state == "validating" or (record.state == "cancelling" and not record.total)
        self.fetching = False
        self.exhausted = False
        """No more can be read."""
        self.open: dict[int, BatchAnswer | None] = {}
        """By line: begun, and without a result in the store. None: nothing answers it yet."""
        self.failures: Counter[int] = Counter()
        """By line: how often backends have failed on it."""
        self.ends_as: BatchState | None = None
        """It begins no more requests, and ends so."""
        self.finishing = False
        self.validation = trio.CancelScope()

    @property
    def wants_lines(self) -> bool:
        return (
            self.record.state == "in_progress"
            and self.ends_as is None
            and not (self.exhausted or self.fetching)
            and len(self.lines) < LOW
        )

    @property
    def is_done(self) -> bool:
        """Nothing of it is left to do but to write its end."""
        if self.finishing or self.validating or self.open:
            return False
        if self.ends_as is not None:
            return True
        return self.record.state == "finalizing" or (
            self.record.state == "in_progress" and self.exhausted and not self.lines and not self.fetching
        )

    def fetched(self, lines: list[WaitingLine]) -> None:
        self.fetching = False
        self.lines += lines
        self.exhausted = len(lines) < FETCHED
        if lines:
            self.after = lines[-1].number

    def again(self, line: WaitingLine) -> None:
        """Its request is tried again."""
        del self.open[line.number]
        self.lines.appendleft(line)

    def cut(self, code: str, message: str) -> None:
        """End the requests that run: they have no result and cost nothing."""
        for answer in self.open.values():
            if answer is not None:
                answer.cut(code, message)
