"""Counts the text pieces and the `data:` events of an answer whose bytes arrive in parts."""

PIECE = b" token"
"""The text of one event of the scripted upstream. Nothing else in an answer contains it."""
_EVENT = b"\ndata:"
_KEPT_BYTES = len(PIECE) - 1


class PieceCounter:
    """Counts in a body without chunk framing. A piece that is split between two parts counts once."""

    __slots__ = ("_kept", "events", "pieces")

    def __init__(self) -> None:
        self.pieces = 0
        self.events = 0
        """Lines that begin with `data:`, `[DONE]` included. A gateway may put several pieces into one."""
        self._kept = b"\n"

    def feed(self, data: bytes) -> int:
        """Number of pieces that are complete with this part."""
        joined = self._kept + data
        self._kept = joined[-_KEPT_BYTES:]
        self.events += joined.count(_EVENT)
        found = joined.count(PIECE)
        self.pieces += found
        return found


# Neither can be found again within the bytes that are kept.
assert len(PIECE) == len(_EVENT) == _KEPT_BYTES + 1
