"""Renders response events as server-sent events."""

from collections.abc import Iterable

from actors.api.errors import ErrorBody
from actors.api.response import Delta, Done, Failed, ResponseEvent, Start, Usage
from gateway.http.event_renderer import EventRenderer
from gateway.http.response_head import error_object
from gateway.openai.responses.completion import Chunks, finish_word

_DONE = b"data: [DONE]\n\n"


class SseRenderer(EventRenderer):
    """Chunks, and `[DONE]`."""

    def __init__(
        self, chunks: Chunks, *, include_usage: bool, continuous: bool = False, after: int | None = None
    ) -> None:
        """`continuous`: every chunk contains the usage so far."""
        super().__init__(after)
        self._chunks = chunks
        self._continuous = continuous
        self._prompt_tokens = 0
        self._tokens = self._reasoning_tokens = 0
        self._include_usage = include_usage
        self._open: set[int] = set()
        self._echo: tuple[str, ...] = ()
        self._held: tuple[int, str] | None = None

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
            self._reasoning_tokens += delta.reasoning_tokens
            self._chunks.count(Usage(self._prompt_tokens, self._tokens, reasoning_tokens=self._reasoning_tokens))
        if index not in self._open:
            self._open.add(index)
            parts.append(self._chunks.opening(delta, self._echo[index] if self._echo else ""))
        if delta.text or delta.logprobs or delta.calls or delta.reasoning:
            parts.append(self._chunks.content(delta))
        if delta.extras is not None:
            parts.append(self._chunks.extra_fields(index, delta.extras))
        if delta.finish_reason is not None and (word := finish_word(delta.finish_reason)) is not None:
            if self._held is not None:
                parts.append(self._chunks.finish(*self._held, None))
            self._held = (index, word)


def error_event(error: ErrorBody, request_id: str = "") -> bytes:
    """The terminal event of a failed stream; no [DONE] follows, and the request's id is not in it."""
    del request_id
    return b"data: %b\n\n" % error_object(error)
