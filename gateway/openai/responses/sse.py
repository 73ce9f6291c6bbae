"""Renders response events as server-sent events: all that is ready becomes one write."""

from collections.abc import Iterable

from actors.api.errors import ErrorBody
from actors.api.response import Delta, Done, Failed, ResponseEvent, Start, Usage
from gateway.http.response_head import error_object
from gateway.openai.responses.completion import Chunks, finish_word

_DONE = b"data: [DONE]\n\n"
_END = b"\n\n"
"""Of an event. JSON contains no line ends."""


class SseRenderer:
    """Renders one answer. `ended`: the stream's last event was rendered; `failed`: it was an error."""

    def __init__(
        self, chunks: Chunks, *, include_usage: bool, continuous: bool = False, after: int | None = None
    ) -> None:
        """`continuous`: every chunk contains the usage so far.

        `after`: number the answer's events, from 1 on, and omit those up to this one; None: without numbers.
        """
        self._after = after
        self.number = 0
        """Of the last event, if they are numbered."""
        self._chunks = chunks
        self._continuous = continuous
        self._prompt_tokens = 0
        self._tokens = 0
        self._include_usage = include_usage
        self._open: set[int] = set()
        self._echo: tuple[str, ...] = ()
        self._held: tuple[int, str] | None = None
        self.ended = False
        self.failed = False

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

    def _data(self, events: Iterable[ResponseEvent]) -> bytes:
        parts: list[bytes] = []
        for event in events:
            match event:
                case Delta():
                    self._delta(event, parts)
                case Start(echo=echo, prompt_tokens=prompt_tokens):
                    self._echo = echo
                    self._prompt_tokens = prompt_tokens
                case Done():
                    if self._continuous:
                        self._chunks.count(event.usage)
                    # The last choice's finish reason was held for this: the extension field belongs into the last
                    # chunk, and clients expect that only the usage chunk has no choices.
                    if self._held is not None:
                        parts.append(self._chunks.finish(*self._held, None if self._include_usage else event.served))
                    if self._include_usage:
                        parts.append(self._chunks.usage(event.usage, event.served))
                    parts.append(_DONE)
                    self.ended = True
                case Failed():
                    parts.append(error_event(event.error))
                    self.ended = self.failed = True
        return b"".join(parts)

    def _delta(self, delta: Delta, parts: list[bytes]) -> None:
        index = delta.index
        if self._continuous:
            self._tokens += len(delta.token_ids) + delta.unnamed
            self._chunks.count(Usage(self._prompt_tokens, self._tokens))
        if index not in self._open:
            self._open.add(index)
            parts.append(self._chunks.opening(delta, self._echo[index] if self._echo else ""))
        if delta.text or delta.logprobs or delta.calls or delta.reasoning:
            parts.append(self._chunks.content(delta))
        if delta.finish_reason is not None and (word := finish_word(delta.finish_reason)) is not None:
            if self._held is not None:
                parts.append(self._chunks.finish(*self._held, None))
            self._held = (index, word)


def error_event(error: ErrorBody) -> bytes:
    """The terminal event of a failed stream; no [DONE] follows."""
    return b"data: %b\n\n" % error_object(error)
