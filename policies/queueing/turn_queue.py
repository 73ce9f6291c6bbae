"""Whose turn it is where a few workers do short pieces of work.

Upper tiers first, and within a tier one owner after the other, however many pieces one has.
"""

import heapq

import msgspec


class WorkFor(msgspec.Struct, frozen=True, gc=False):
    """Whose work it is."""

    owner: str
    tiers_above: int = 0
    """Number of tiers above the owner's."""


class TurnQueue:
    """Waiting pieces of work, by number. Mutable; owned by the task that starts them.

    As in start-time fair queueing with pieces of equal size: an owner's next piece comes one round after its last one,
    but never before the round that is being served.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int]] = []
        """(tiers above, round, number)"""
        self._waiting: set[int] = set()
        self._last: dict[WorkFor, int] = {}
        """By owner, the round of its last piece; forgotten when nothing waits."""
        self._round: dict[int, int] = {}
        """By tiers above: the round that is being served."""
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, work_for: WorkFor) -> int:
        """One more piece; its number."""
        tier = work_for.tiers_above
        turn = max(self._last.get(work_for, -1) + 1, self._round.get(tier, 0))
        self._last[work_for] = turn
        self._numbers += 1
        self._waiting.add(self._numbers)
        heapq.heappush(self._heap, (tier, turn, self._numbers))
        return self._numbers

    def next(self) -> int | None:
        """The piece whose turn it is, which no longer waits; None: none waits."""
        while self._heap:
            tier, turn, number = heapq.heappop(self._heap)
            if number in self._waiting:
                self._round[tier] = turn
                self._leave(number)
                return number
        return None

    def withdraw(self, number: int) -> None:
        """It is not wanted any more; without effect if it does not wait."""
        if number in self._waiting:
            self._leave(number)

    def _leave(self, number: int) -> None:
        self._waiting.discard(number)
        if not self._waiting:
            self._heap.clear()
            self._last.clear()
            self._round.clear()
