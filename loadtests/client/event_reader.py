"""Reads server-sent events (WHATWG HTML, section 9.2) from bytes as they arrive, into an `Answer`. Sans-IO."""

import msgspec

from loadtests.client import failures
from loadtests.client.answer import Answer, AnswerChunk
from loadtests.client.answer_json import UNREADABLE
from loadtests.client.known_event import KnownEvent

_LONGEST_EVENT = 4 * 2**20
_decode = msgspec.json.Decoder(AnswerChunk).decode


class EventReader:
    """`answer` must have begun."""

    __slots__ = ("_rest", "answer", "known")

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.known = KnownEvent()
        """Of the last event that was decoded, if it is one of text and has no number."""
        self._rest = b""
        """Of an event that has not ended."""

    @property
    def is_between_events(self) -> bool:
        return not self._rest

    def feed(self, data: bytes, at: float) -> bool:
        """Read bytes that arrived at this time. Returns whether to read on."""
        answer, known = self.answer, self.known
        if self._rest:
            data = self._rest + data
        if b"\r" in data:
            # An end of line may be CR LF, of which the second half has not arrived.
            data = data.removesuffix(b"\r").replace(b"\r\n", b"\n") + (b"\r" if data.endswith(b"\r") else b"")
        *events, self._rest = data.split(b"\n\n")
        for event in events:
            text = known.text_in(event)
            if text is not None:
                answer.content(text.decode() if answer.keep_text else "", at)
            elif event.startswith(b"data: {") and b"\n" not in event and answer.number is None:
                self._data(event[6:], at)
                known.learn(event, "" if answer.failure else answer.plain_text)
            elif event:
                known.forget()
                self._lines(event, at)
        if len(self._rest) > _LONGEST_EVENT:
            answer.fail(failures.GARBLED, f"an event of more than {_LONGEST_EVENT >> 20} MiB")
        return not answer.failure

    def end(self, at: float, *, in_order: bool, why: str = "") -> None:
        """The body has ended. An event without its empty line is not whole."""
        if in_order and self._rest.strip() and not self.answer.failure:
            self.answer.fail(failures.TRUNCATED, "the last event has no end")
        self.answer.ended(at, in_order=in_order, why=why)

    def _lines(self, event: bytes, at: float) -> None:
        parts: list[bytes] = []
        number = b""
        for line in event.split(b"\n"):
            name, _, value = line.partition(b":")
            if name == b"data":
                parts.append(value.removeprefix(b" "))
            elif name == b"id":
                number = value.strip()
        if number:
            if number.isdigit():
                self.answer.event_number(int(number[:18]))
        elif self.answer.number is not None and parts:
            self.answer.fail(failures.MISSING_EVENT, f"an event without a number after event {self.answer.number}")
        if parts:
            self._data(b"\n".join(parts), at)

    def _data(self, data: bytes, at: float) -> None:
        if data == b"[DONE]":
            if self.answer.done:
                self.answer.fail(failures.EARLY_DONE, "[DONE] came twice")
            self.answer.done = True
            self.answer.last_event_s = at
            return
        try:
            chunk = _decode(data)
        except UNREADABLE as error:
            self.answer.fail(failures.GARBLED, f"an event is not a chunk: {error}")
            return
        self.answer.chunk(chunk, at)


class BodyReader:
    """Reads a whole answer, or an error's body."""

    __slots__ = ("_body", "_only_error", "answer")

    def __init__(self, answer: Answer, only_error: bool = False) -> None:
        """`only_error`: a stream was asked for, so that JSON can be no answer."""
        self.answer = answer
        self._only_error = only_error
        self._body = bytearray()

    def feed(self, data: bytes, at: float) -> bool:
        """Read bytes that arrived at this time. Returns whether to read on."""
        self._body += data
        if len(self._body) > _LONGEST_EVENT * 4:
            self.answer.fail(failures.GARBLED, f"a body of more than {_LONGEST_EVENT >> 18} MiB")
        return not self.answer.failure

    def end(self, at: float, *, in_order: bool, why: str = "") -> None:
        """The body has ended."""
        answer = self.answer
        if in_order and not answer.failure:
            if answer.status >= 400 or answer.status < 200:
                answer.error(bytes(self._body))
            else:
                try:
                    chunk = _decode(self._body)
                    if self._only_error and not chunk.has_error:
                        answer.fail(failures.WRONG_TYPE, "the content type is that of JSON, and a stream was asked for")
                    answer.chunk(chunk, at)
                except UNREADABLE as error:
                    answer.fail(failures.GARBLED, f"the body is no answer: {error}")
                answer.done = True
        answer.ended(at, in_order=in_order, why=why)
