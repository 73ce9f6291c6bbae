"""What the renderers of all streaming wire formats share: an answer's events as server-sent events, numbered or not."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from actors.api.response import ResponseEvent

_END = b"\n\n"
"""Of an event. JSON contains no line ends."""


class EventRenderer(ABC):
    """Renders one answer: all that is ready becomes one write.

    `ended`: the stream's last event was rendered; `failed`: it was an error.
    """

    def __init__(self, after: int | None) -> None:
        """`after`: number the answer's events, from 1 on, and omit those up to this one; None: without numbers."""
        self._after = after
        self.number = 0
        """Of the last event, if they are numbered."""
        self.ended = False
        self.failed = False
        self.whole = b""
        """The answer as it has ended, in the form in which it is stored; b"" if such answers are not."""

    def render(self, events: Iterable[ResponseEvent]) -> bytes:
        """The bytes of these events; b"" if there is nothing to send yet."""
        data = self._data(events)
        return data if self._after is None else self._numbered(data, self._after)

    def _numbered(self, data: bytes, after: int) -> bytes:
        """The numbers depend on the answer alone, not on which of its events were rendered together."""
        parts = []
        for event in data.split(_END)[:-1]:
            self.number += 1
            if self.number > after:
                parts.append(b"id: %d\n%b%b" % (self.number, event, _END))
        return b"".join(parts)

    @abstractmethod
    def _data(self, events: Iterable[ResponseEvent]) -> bytes:
        """The same without numbers."""
