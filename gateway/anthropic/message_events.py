"""The events of a streamed message."""

from collections.abc import Iterable

from actors.api.errors import ErrorBody
from actors.api.request import ParsedBody
from actors.api.response import Delta, Done, Failed, MadeCall, ResponseEvent, Start, Usage
from gateway.anthropic.errors import anthropic_error
from gateway.anthropic.message_answer import REFUSED, message_fields, stop_fields, tool_use, usage_counts
from gateway.http.event_renderer import EventRenderer
from gateway.openai.json_text import encode
from gateway.openai.responses.completion import Identity, finish_word

_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":'
_DELTA_END = b"}}\n\n"


class MessageRenderer(EventRenderer):
    """A content event is the text in a template that is prepared when its block begins."""

    def __init__(self, identity: Identity, body: ParsedBody, after: int | None) -> None:
        super().__init__(after)
        self._identity = identity
        self._stops = body.params.stop
        self._shows_reasoning = body.view.reasoning
        self._prompt_tokens = 0
        self._begun = False
        self._index = -1
        """Of the block in hand, or of the last one."""
        self._kind = ""
        """Of the block in hand: "text" or "thinking"; "": there is none."""
        self._text_start = b""
        self._end = stop_fields(None, None, ())

    def _data(self, events: Iterable[ResponseEvent]) -> bytes:
        parts: list[bytes] = []
        for event in events:
            match event:
                case Delta():
                    self._delta(event, parts)
                case Start(prompt_tokens=prompt_tokens):
                    self._prompt_tokens = prompt_tokens
                case Done():
                    self._begin(parts)
                    self._close(parts)
                    fields = {
                        "type": "message_delta",
                        "delta": self._end,
                        "usage": usage_counts(event.usage),
                        "penstock": event.served,
                    }
                    parts += (b"event: message_delta\ndata: %b\n\n" % encode(fields), _STOP)
                    self.ended = True
                case Failed():
                    parts.append(message_error_event(event.error, self._identity.request_id))
                    self.ended = self.failed = True
        return b"".join(parts)

    def _delta(self, delta: Delta, parts: list[bytes]) -> None:
        if not self._begun:
            self._begin(parts)
        if delta.reasoning and self._shows_reasoning:
            self._add("thinking", delta.reasoning, parts)
        if delta.text:
            self._add("text", delta.text, parts)
        for call in delta.calls:
            self._call(call, parts)
        if delta.finish_reason is not None:
            reason = finish_word(delta.finish_reason)
            self._end = stop_fields(REFUSED if delta.refuses and reason == "stop" else reason, delta.stop, self._stops)

    def _begin(self, parts: list[bytes]) -> None:
        if self._begun:
            return
        self._begun = True
        message = message_fields(self._identity, (), self._end, Usage(self._prompt_tokens, 0))
        fields = {"type": "message_start", "message": message}
        parts.append(b"event: message_start\ndata: %b\n\n" % encode(fields))

    def _add(self, kind: str, text: str, parts: list[bytes]) -> None:
        if kind != self._kind:
            self._open(kind, {"type": kind, kind: "", **({"signature": ""} if kind == "thinking" else {})}, parts)
        parts += (self._text_start, encode(text), _DELTA_END)

    def _call(self, call: MadeCall, parts: list[bytes]) -> None:
        self._open("tool_use", tool_use(call, {}), parts)
        parts.append(_DELTA % (self._index, b"input_json_delta", b"partial_json") + encode(call.arguments) + _DELTA_END)
        self._close(parts)

    def _open(self, kind: str, block: dict[str, object], parts: list[bytes]) -> None:
        self._close(parts)
        self._index += 1
        self._kind = kind
        self._text_start = _DELTA % (self._index, f"{kind}_delta".encode(), kind.encode())
        fields = {"type": "content_block_start", "index": self._index, "content_block": block}
        parts.append(b"event: content_block_start\ndata: %b\n\n" % encode(fields))
        if self._index == 0:
            parts.append(_PING)

    def _close(self, parts: list[bytes]) -> None:
        if self._kind:
            self._kind = ""
            fields = {"type": "content_block_stop", "index": self._index}
            parts.append(b"event: content_block_stop\ndata: %b\n\n" % encode(fields))


def message_error_event(error: ErrorBody, request_id: str) -> bytes:
    """The end of a stream that has failed."""
    return b"event: error\ndata: %b\n\n" % anthropic_error(error, request_id)
