"""From the service's events to server-sent events: what is ready becomes one piece of bytes."""

from collections.abc import Iterable

from actors.api.errors import ErrorBody
from actors.api.response import Delta, Done, Failed, ResponseEvent, Start, Usage
from gateway.http.response_head import error_object
from gateway.openai.responses.completion import Chunks, finish_word

_DONE = b"data: [DONE]\n\n"


class SseRenderer:
    """Renders one answer. `ended`: the last event of the stream was rendered; `failed`: it was an error."""

    def __init__(self, chunks: Chunks, *, include_usage: bool, continuous: bool = False) -> None:
        """`continuous`: every chunk tells the usage as of then."""
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
        """The bytes of these events; possibly none."""
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
                    # The finish reason of the last choice waited for this: who answered belongs into the last chunk,
                    # and clients expect that only the usage chunk has no choices.
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
    """The terminal event of a stream that broke off; no [DONE] follows."""
    return b"data: %b\n\n" % error_object(error)
