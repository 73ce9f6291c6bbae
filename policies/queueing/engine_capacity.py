"""Whether an engine can start more work soon: the rule by which work leaves the fair queue.

Work waits in the fair queue, where priorities and fairness hold, and not in the engine's own list, which is kept just
long enough that a step never lacks work while a report is on its way.
"""

from collections import deque
from collections.abc import Iterable
from typing import Protocol

_STEPS_TO_SHOW = 2
"""After so many more steps the engine's figures include what was handed over before them."""


class CapacityFigures(Protocol):
    """What is known of an engine since its last step; `engine.messages.EngineStats` is one."""

    @property
    def waiting(self) -> int: ...
    @property
    def free_blocks(self) -> int: ...
    @property
    def steps_total(self) -> int: ...


class EngineCapacity:
    """One engine's, or one upstream's. Mutable; owned by the task that dispatches jobs."""

    def __init__(self, places: int, block_size: int | None, ahead: int | None = None) -> None:
        """`places`: sequences that run side by side. `block_size` None: there are no KV blocks, only places.

        `ahead`: sequences handed over beyond those; None: an eighth of them.
        """
        self._places = places
        self._block_size = block_size
        self._ahead = max(1, places // 8) if ahead is None else ahead
        self._works = 0
        self.sequences = 0
        """Handed over and not ended."""
        self._unseen: deque[tuple[int, int]] = deque()
        """(steps when handed over, blocks that its prompts will take)"""
        self._coming = 0
        """The sum of those blocks."""

    def blocks(self, prompts: Iterable[int]) -> int:
        """What prompts of these lengths will take."""
        size = self._block_size
        return sum([length // size + 1 for length in prompts]) if size is not None else 0

    def fits(self, sequences: int, blocks: int, figures: CapacityFigures | None) -> bool:
        """Whether this can be started soon. An empty engine takes anything that its limits allow."""
        if not self._works:
            return True
        if self.sequences + sequences > self._places + self._ahead:
            return False
        if figures is None or self._block_size is None:
            return True
        if figures.waiting > self._ahead:
            return False
        while self._unseen and self._unseen[0][0] + _STEPS_TO_SHOW <= figures.steps_total:
            self._see_oldest()
        # One more block for each that runs: its output grows.
        return figures.free_blocks - self._coming - self.sequences >= blocks

    def enter(self, sequences: int, blocks: int, figures: CapacityFigures | None) -> None:
        """It is handed over."""
        self._works += 1
        self.sequences += sequences
        if self._block_size is None:
            return
        self._unseen.append((figures.steps_total if figures is not None else 0, blocks))
        self._coming += blocks
        if len(self._unseen) > self._places + self._ahead:
            self._see_oldest()

    def leave(self, sequences: int) -> None:
        """A work has ended there."""
        self._works -= 1
        self.sequences -= sequences

    def clear(self) -> None:
        """The engine is gone, with all that it had."""
        self._works = self.sequences = self._coming = 0
        self._unseen.clear()

    def is_settled(self, sequences: int, blocks: int, figures: CapacityFigures | None) -> bool:
        """Steps that only make tokens will make no room for so much: something has to leave before."""
        if not self._works:
            return False
        if self.sequences + sequences > self._places + self._ahead:
            return True
        return figures is not None and not self.fits(sequences, blocks, figures) and not self._unseen

    def _see_oldest(self) -> None:
        self._coming -= self._unseen.popleft()[1]
