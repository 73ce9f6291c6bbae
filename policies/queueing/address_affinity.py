"""Which of several equal servers has answered the beginning of a conversation, and probably has it in its cache.

A beginning is known by a mark: a digest of what the cache depends on. As many are remembered as `most`, the latest
ones.
"""

from collections import OrderedDict
from collections.abc import Sequence

_REMEMBERED = 4
"""Marks of one conversation that are remembered: its whole prompt, and what it was before its last messages."""
_IMBALANCE = 1.5
_SLACK = 2
"""The server that knows a conversation may have this many times the calls of the least loaded one, and these more."""


class AddressAffinity:
    """Of one upstream's addresses, by index."""

    def __init__(self, most: int = 8192) -> None:
        self._most = most
        self._held: OrderedDict[bytes, int] = OrderedDict()
        """By mark, the oldest first: the address."""
        self.known_total = 0
        """Requests whose conversation was known."""

    def address_of(self, marks: Sequence[bytes]) -> int | None:
        """The address that has answered the longest beginning. `marks`: shortest first."""
        for mark in reversed(marks):
            if (number := self._held.get(mark)) is not None:
                self.known_total += 1
                return number
        return None

    def answered(self, marks: Sequence[bytes], number: int) -> None:
        """The address has read a prompt with these marks."""
        for mark in marks[-_REMEMBERED:]:
            self._held[mark] = number
            self._held.move_to_end(mark)
        while len(self._held) > self._most:
            self._held.popitem(last=False)

    def __len__(self) -> int:
        return len(self._held)


def bears(calls: int, least: int) -> bool:
    """Whether an address with so many calls may get one more because it knows the conversation. `least`: of another."""
    return calls <= least * _IMBALANCE + _SLACK
