"""The way into one engine: its fair queue, and when the next work may leave it.

Work waits here, where priorities and fairness hold, and not in the engine's own list, which is kept just long enough
that a step never lacks work while a report is on its way.
"""

from collections import deque

from actors.engine_board import EngineBoard
from actors.mail import Work
from actors.statistics import QueueStatistics
from policies.fair_queue import FairQueue

_STEPS_TO_SHOW = 2
"""After so many more steps the engine's figures include what was handed over before them."""


class Lane:
    """Owned by dispatch."""

    def __init__(self, board: EngineBoard, queue: FairQueue[Work], max_running: int, block_size: int) -> None:
        self.board = board
        self.queue = queue
        self.epoch: int | None = None
        """Of the engine's present life; None: it takes no work."""
        self.down_why = ("engine_loading", f"The engine {board.name} is being loaded.")
        self.inside: dict[int, Work] = {}
        self._sequences = 0
        self._ahead = max(1, max_running // 8)
        self._max_running = max_running
        self._block_size = block_size
        self._unseen: deque[tuple[int, int]] = deque()
        """(steps when handed over, blocks that its prompts will take)"""
        self._coming = 0
        """The sum of those blocks."""

    def fits(self, work: Work) -> bool:
        """Whether the engine can start it soon. An empty engine takes anything that its limits allow."""
        if not self.inside:
            return True
        if self._sequences + len(work.sequences) > self._max_running + self._ahead:
            return False
        stats = self.board.stats
        if stats is None:
            return True
        if stats.waiting > self._ahead:
            return False
        while self._unseen and self._unseen[0][0] + _STEPS_TO_SHOW <= stats.steps_total:
            self._see_oldest()
        # One more block for each that runs: its output grows.
        return stats.free_blocks - self._coming - self._sequences >= self._blocks(work)

    def enter(self, work: Work) -> None:
        """It is handed to the engine."""
        self.inside[work.id] = work
        self._sequences += len(work.sequences)
        stats = self.board.stats
        blocks = self._blocks(work)
        self._unseen.append((stats.steps_total if stats is not None else 0, blocks))
        self._coming += blocks
        if len(self._unseen) > self._max_running + self._ahead:
            self._see_oldest()

    def leave(self, work: Work) -> None:
        """It has ended there; a work that is not in there (its engine went down meanwhile) changes nothing."""
        if self.inside.pop(work.id, None) is not None:
            self._sequences -= len(work.sequences)

    def clear(self) -> list[Work]:
        """The engine is gone: all that it had, and all that waited for it."""
        lost = list(self.inside.values())
        self.inside.clear()
        self._sequences = 0
        self._unseen.clear()
        self._coming = 0
        return lost

    def statistics(self, now: float) -> QueueStatistics:
        """The figures now."""
        line = self.queue.statistics()
        return QueueStatistics(
            requests=line.requests,
            tokens=line.tokens,
            inside=self.board.inside,
            refused_total=sum(line.refused_total.values()),
            expired_total=line.expired_total,
            expected_wait_s=self.queue.expected_wait_s(now),
        )

    def _see_oldest(self) -> None:
        self._coming -= self._unseen.popleft()[1]

    def _blocks(self, work: Work) -> int:
        size = self._block_size
        return sum(len(sequence.prompt_token_ids) // size + 1 for sequence in work.sequences)
