"""Separates one choice's text into text and tool calls as it streams."""

from collections.abc import Collection, Sequence
from itertools import chain

import msgspec

from actors.api.response import Delta, MadeCall
from actors.prompt.continuation import rest_of
from engine.text.tool_calls import ToolStyle
from engine.text.tool_parser import ToolCallParser


class ToolCallReader:
    """Reader for one attempt at one choice. Sans-IO."""

    def __init__(self, style: ToolStyle, names: Collection[str], *, id_prefix: str) -> None:
        """`id_prefix`: makes the calls' ids unique."""
        self._parser = ToolCallParser(style, names)
        self._id_prefix = id_prefix
        self._count = 0
        self._unsent = ""
        self._pending: list[Delta] = []

    def replay(self, written: str, shown: str) -> None:
        """Take in what an earlier attempt wrote of this choice, calls included. `shown`: the client's text of it."""
        parsed = self._parser.push(written)
        self._count += len(parsed.calls)
        self._unsent = rest_of(parsed.text, shown)

    @property
    def opened(self) -> bool:
        return self._parser.opened

    @property
    def holding(self) -> bool:
        """Whether text is held back that may be a call; no other model can continue from here."""
        return self._parser.holding

    def read(self, delta: Delta) -> Delta:
        """The delta with only certain text and complete calls."""
        parser = self._parser
        parsed = parser.push(delta.text)
        text, finish = self._unsent + parsed.text, delta.finish_reason
        self._unsent = ""
        if finish is not None:
            stop = delta.stop if isinstance(delta.stop, str) else ""
            text += parser.end(cut=bool(stop) or finish in {"length", "content_filter"}, stop=stop).text
            finish = "tool_calls" if parser.called and finish == "stop" else finish
        first = self._count
        self._count += len(parsed.calls)
        made = enumerate(parsed.calls, first)
        calls = [MadeCall(index, f"{self._id_prefix}{index}", call.name, call.arguments) for index, call in made]
        return msgspec.structs.replace(delta, text=text, finish_reason=finish, calls=tuple(calls))

    def gather(self, delta: Delta) -> Delta | None:
        """Merge the result of `read` with those held before; None while a call may be open."""
        self._pending.append(delta)
        if self.holding:
            return None
        kept, self._pending = self._pending, []
        return delta if len(kept) == 1 else _joined(kept)


def _joined(deltas: Sequence[Delta]) -> Delta:
    return msgspec.structs.replace(
        deltas[-1],
        text="".join([delta.text for delta in deltas]),
        token_ids=tuple(chain.from_iterable([delta.token_ids for delta in deltas])),
        logprobs=tuple(chain.from_iterable([delta.logprobs for delta in deltas])),
        calls=tuple(chain.from_iterable([delta.calls for delta in deltas])),
        unnamed=sum([delta.unnamed for delta in deltas]),
        prompt_logprobs=deltas[0].prompt_logprobs,
        reasoning="".join([delta.reasoning for delta in deltas]),
        reasoning_tokens=sum([delta.reasoning_tokens for delta in deltas]),
    )
