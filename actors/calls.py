"""Tool calls on their way into the answer: one choice's text, read as text and calls."""

from collections.abc import Container

import msgspec

from actors.messages import Delta, EndReason, MadeCall
from engine.tool_calls import ToolStyle
from engine.tool_parser import ToolCallParser


class CallReader:
    """One attempt at one choice. Sans-IO."""

    def __init__(self, style: ToolStyle, names: Container[str], *, id_prefix: str, goes_on: bool) -> None:
        """`id_prefix`: makes the calls' ids unique. `goes_on`: text of the choice was shown by an earlier attempt."""
        self._parser = ToolCallParser(style, names, goes_on=goes_on)
        self._id_prefix = id_prefix
        self._count = 0
        self._pending: Delta | None = None

    @property
    def opened(self) -> bool:
        """A call has begun; it stays so."""
        return self._parser.opened

    @property
    def holding(self) -> bool:
        """Text is held that may be a call, or part of one: no other model can go on from here."""
        return self._parser.holding

    def read(self, delta: Delta) -> Delta:
        """The same tokens, with what is certain: text that is no call, and calls that are whole."""
        parser = self._parser
        spoken = parser.push(delta.text)
        text, finish = spoken.text, delta.finish_reason
        if finish is not None:
            text += parser.end().text
            finish = _end(finish, called=parser.called)
        first = self._count
        self._count += len(spoken.calls)
        calls = tuple(
            [
                MadeCall(index, f"{self._id_prefix}{index}", call.name, call.arguments)
                for index, call in enumerate(spoken.calls, first)
            ]
        )
        return msgspec.structs.replace(delta, text=text, finish_reason=finish, calls=calls)

    def gather(self, delta: Delta) -> Delta | None:
        """What `read` gave, together with what was kept before; None while a call may be open: it is kept, too."""
        if self._pending is not None:
            delta, self._pending = _joined(self._pending, delta), None
        if self.holding:
            self._pending = delta
            return None
        return delta


def _end(reason: EndReason, *, called: bool) -> EndReason:
    return "tool_calls" if called and reason == "stop" else reason


def _joined(one: Delta, two: Delta) -> Delta:
    return msgspec.structs.replace(
        two,
        text=one.text + two.text,
        token_ids=one.token_ids + two.token_ids,
        logprobs=one.logprobs + two.logprobs,
        calls=one.calls + two.calls,
        unnamed=one.unnamed + two.unnamed,
    )
