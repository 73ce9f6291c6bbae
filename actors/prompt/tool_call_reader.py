"""Tool calls on their way into the answer: one choice's text, read as text and calls."""

from collections.abc import Collection, Sequence
from itertools import chain

import msgspec

from actors.api.response import Delta, EndReason, MadeCall
from engine.text.tool_calls import ToolStyle
from engine.text.tool_parser import ToolCallParser


class ToolCallReader:
    """One attempt at one choice. Sans-IO."""

    def __init__(self, style: ToolStyle, names: Collection[str], *, id_prefix: str, goes_on: bool) -> None:
        """`id_prefix`: makes the calls' ids unique. `goes_on`: text of the choice was shown by an earlier attempt."""
        self._parser = ToolCallParser(style, names, goes_on=goes_on)
        self._id_prefix = id_prefix
        self._count = 0
        self._pending: list[Delta] = []

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
            stop = delta.stop if isinstance(delta.stop, str) else ""
            text += parser.end(cut=bool(stop) or finish in {"length", "content_filter"}, stop=stop).text
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
        self._pending.append(delta)
        if self.holding:
            return None
        kept, self._pending = self._pending, []
        return delta if len(kept) == 1 else _joined(kept)


def _end(reason: EndReason, *, called: bool) -> EndReason:
    return "tool_calls" if called and reason == "stop" else reason


def _joined(deltas: Sequence[Delta]) -> Delta:
    return msgspec.structs.replace(
        deltas[-1],
        text="".join([each.text for each in deltas]),
        token_ids=tuple(chain.from_iterable([each.token_ids for each in deltas])),
        logprobs=tuple(chain.from_iterable([each.logprobs for each in deltas])),
        calls=tuple(chain.from_iterable([each.calls for each in deltas])),
        unnamed=sum([each.unnamed for each in deltas]),
        prompt_logprobs=deltas[0].prompt_logprobs,
        reasoning="".join([each.reasoning for each in deltas]),
    )
