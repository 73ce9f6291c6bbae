"""The events of a streamed response, each with its number."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from actors.api.errors import ErrorBody
from actors.api.request import ParsedBody
from actors.api.response import Delta, Done, Failed, ResponseEvent, Start, Usage
from gateway.http.event_renderer import EventRenderer
from gateway.openai.json_text import encode
from gateway.openai.logprobs import chat_logprobs
from gateway.openai.responses.completion import Identity
from gateway.responses_api.output import (
    CallItem,
    OutputItem,
    Status,
    TextItem,
    ThoughtItem,
    annotations_of,
    shows_text,
)
from gateway.responses_api.response_object import ResponseObject

_TEXT = "response.output_text"
_PLAIN_END = b',"logprobs":[],"sequence_number":%d}\n\n'
"""What follows the text in a content event."""
_THOUGHT = "response.reasoning_text"
_REFUSAL = "response.refusal"


class ResponseRenderer(EventRenderer):
    """Renders one streamed response. A content event is the text and a number in a prepared template."""

    def __init__(self, identity: Identity, body: ParsedBody, after: int | None) -> None:
        super().__init__(after)
        self._response = ResponseObject(identity, body)
        self._output = self._response.output
        self._sequence = 0
        self._open: OutputItem | None = None
        """The item that grows."""
        self._grow: Callable[[str], None] | None = None
        """Takes the next text of the open message; None: no message is open."""
        self._template = b""
        """The beginning of a content event of the open message."""

    def failure(self, error: ErrorBody, usage: Usage | None = None) -> bytes:
        """The events of an answer that breaks off."""
        self.ended = self.failed = True
        parts: list[bytes] = []
        self._begin(parts)
        self._close(parts, "incomplete")
        self._last("response.failed", self._response.fields("failed", error=error, usage=usage), parts)
        return b"".join(parts)

    def _data(self, events: Iterable[ResponseEvent]) -> bytes:
        parts: list[bytes] = []
        for event in events:
            match event:
                case Delta():
                    self._delta(event, parts)
                case Start():
                    self._begin(parts)
                case Done():
                    self._done(event, parts)
                case Failed():
                    parts.append(self.failure(event.error, event.usage))
        return b"".join(parts)

    def _begin(self, parts: list[bytes]) -> None:
        if not self._sequence:
            fields = self._response.fields("in_progress")
            parts += [
                self._event("response.created", response=fields),
                self._event("response.in_progress", response=fields),
            ]

    def _delta(self, delta: Delta, parts: list[bytes]) -> None:
        if delta.reasoning:
            self._reason(delta.reasoning, parts)
        if delta.refuses:
            self._refuse(delta.text, parts)
        elif delta.logprobs:
            self._text_with_logprobs(delta, parts)
        elif delta.text:
            grow = self._grow
            if grow is None:
                grow = self._open_text(parts).texts.append
            grow(delta.text)
            parts.append(self._template + encode(delta.text) + _PLAIN_END % self._sequence)
            self._sequence += 1
        if delta.extras is not None:
            for annotation in annotations_of(delta):
                self._annotate(annotation, parts)
        if delta.calls:
            for made in delta.calls:
                self._close(parts, "completed")
                self._call(self._output.call(made), parts)
        if delta.finish_reason is not None or delta.extras is not None:
            self._output.end(delta)

    def _text_with_logprobs(self, delta: Delta, parts: list[bytes]) -> None:
        if not shows_text(delta):
            return
        item = self._open if isinstance(self._open, TextItem) and self._grow else self._open_text(parts)
        item.texts.append(delta.text)
        item.logprobs += delta.logprobs
        parts.append(
            b'%b%b,"logprobs":%b,"sequence_number":%d}\n\n'
            % (self._template, encode(delta.text), encode(chat_logprobs(delta.logprobs)), self._sequence)
        )
        self._sequence += 1

    def _open_text(self, parts: list[bytes]) -> TextItem:
        self._close(parts, "completed")
        item = self._output.text()
        self._added(item, parts)
        self._grow = item.texts.append
        name = f"{_TEXT}.delta".encode()
        self._template = b'event: %b\ndata: {"type":"%b","item_id":%b,"output_index":%d,"content_index":0,"delta":' % (
            name,
            name,
            encode(item.id),
            item.index,
        )
        return item

    def _annotate(self, annotation: dict[str, Any], parts: list[bytes]) -> None:
        item = self._open if isinstance(self._open, TextItem) else self._open_text(parts)
        place = {**_place(item), "annotation_index": len(item.annotations)}
        item.annotations.append(annotation)
        parts.append(self._event(f"{_TEXT}.annotation.added", **place, annotation=annotation))

    def _refuse(self, text: str, parts: list[bytes]) -> None:
        if not text:
            return
        item = self._open
        if not (isinstance(item, TextItem) and item.refuses):
            self._close(parts, "completed")
            item = self._output.text(refuses=True)
            self._added(item, parts)
        item.texts.append(text)
        parts.append(self._event(f"{_REFUSAL}.delta", **_place(item), delta=text))

    def _reason(self, text: str, parts: list[bytes]) -> None:
        item = self._open
        if not isinstance(item, ThoughtItem):
            self._close(parts, "completed")
            item = self._output.thought()
            self._added(item, parts)
        item.texts.append(text)
        parts.append(self._event(f"{_THOUGHT}.delta", **_place(item), delta=text))

    def _call(self, item: CallItem, parts: list[bytes]) -> None:
        """All events of a call: it comes as a whole."""
        kind = "custom_tool_call_input" if item.custom else "function_call_arguments"
        where = {"item_id": item.id, "output_index": item.index}
        parts += [
            self._event(
                "response.output_item.added", output_index=item.index, item=item.fields("in_progress", empty=True)
            ),
            self._event(f"response.{kind}.delta", **where, delta=item.value),
            self._event(f"response.{kind}.done", **where, **{item.argument: item.value}),
            self._event("response.output_item.done", output_index=item.index, item=item.fields("completed")),
        ]

    def _added(self, item: TextItem | ThoughtItem, parts: list[bytes]) -> None:
        self._open = item
        parts += [
            self._event(
                "response.output_item.added", output_index=item.index, item=item.fields("in_progress", empty=True)
            ),
            self._event("response.content_part.added", **_place(item), part=item.part),
        ]

    def _close(self, parts: list[bytes], status: Status) -> None:
        """The open item, if there is one, grows no further."""
        item, self._open, self._grow = self._open, None, None
        if item is None or isinstance(item, CallItem):
            return
        part = item.part
        done = {name: part[name] for name in ("text", "logprobs", "refusal") if name in part}
        kind = _THOUGHT if isinstance(item, ThoughtItem) else _REFUSAL if item.refuses else _TEXT
        parts += [
            self._event(f"{kind}.done", **_place(item), **done),
            self._event("response.content_part.done", **_place(item), part=part),
            self._event("response.output_item.done", output_index=item.index, item=item.fields(status)),
        ]

    def _done(self, done: Done, parts: list[bytes]) -> None:
        self._begin(parts)
        if not self._output.items and not self._output.is_cut:
            self._open_text(parts)
        self._close(parts, self._response.end_status)
        self._last(f"response.{self._response.end_status}", self._response.ended(done.usage, done.served), parts)
        self.ended = True

    def _last(self, name: str, response: dict[str, Any], parts: list[bytes]) -> None:
        self.whole = encode(response)
        parts.append(self._event(name, response=msgspec.Raw(self.whole)))

    def _event(self, name: str, **fields: Any) -> bytes:
        number = self._sequence
        self._sequence += 1
        return b"event: %b\ndata: %b\n\n" % (
            name.encode(),
            encode({"type": name, **fields, "sequence_number": number}),
        )


def _place(item: TextItem | ThoughtItem) -> dict[str, Any]:
    return {"item_id": item.id, "output_index": item.index, "content_index": 0}


def break_off(error: ErrorBody, _: str, renderer: EventRenderer | None) -> bytes:
    """The last events of a stream that breaks off: of its response, or an error where there is none yet."""
    if isinstance(renderer, ResponseRenderer):
        return renderer.failure(error)
    return b"event: error\ndata: %b\n\n" % encode({**error.fields(), "type": "error", "sequence_number": 0})
