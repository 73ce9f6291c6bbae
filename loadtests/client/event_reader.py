"""Reads server-sent events (WHATWG HTML, section 9.2) from bytes as they arrive, into an `Answer`. Sans-IO."""

import msgspec

from loadtests.client import failures
from loadtests.client.answer import Answer, AnswerChunk

_LONGEST_EVENT = 4 * 2**20
_decode = msgspec.json.Decoder(AnswerChunk).decode


class EventReader:
    """`answer` must have begun."""

    __slots__ = ("_after", "_before", "_rest", "answer")

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._rest = b""
        """Of an event that has not ended."""
        self._before = self._after = b""
        """What stood before and after the text of the last event that was decoded, see `_learn`; b"": unknown."""

    def feed(self, data: bytes, at: float) -> bool:
        """Read bytes that arrived at this time. Returns whether to read on."""
        if self._rest:
            data = self._rest + data
        if b"\r" in data:
            # An end of line may be CR LF, of which the second half has not arrived.
            data = data.removesuffix(b"\r").replace(b"\r\n", b"\n") + (b"\r" if data.endswith(b"\r") else b"")
        *events, self._rest = data.split(b"\n\n")
        before, after = self._before, self._after
        for event in events:
            if before and event.startswith(before) and event.endswith(after):
                text = event[len(before) : -len(after)]
                if text and b'"' not in text and b"\\" not in text and b"\n" not in text:
                    # The same event but for a string that is not empty: what decoding it would have shown.
                    self.answer.content("" if not self.answer.keep_text else text.decode(errors="replace"), at)
                    continue
            if event.startswith(b"data: {") and b"\n" not in event:
                self._data(event[6:], at)
                self._learn(event)
                before, after = self._before, self._after
            elif event:
                self._lines(event, at)
        if len(self._rest) > _LONGEST_EVENT:
            self.answer.fail(failures.GARBLED, f"an event of more than {_LONGEST_EVENT >> 20} MiB")
        return not self.answer.failure

    def end(self, at: float, *, in_order: bool, why: str = "") -> None:
        """The body has ended. An event without its empty line is not whole."""
        if in_order and self._rest.strip() and not self.answer.failure:
            self.answer.fail(failures.TRUNCATED, "the last event has no end")
        self.answer.ended(at, in_order=in_order, why=why)

    def _learn(self, event: bytes) -> None:
        """Find the text in an event that was decoded and brought content, so that its like need not be decoded.

        What makes them alike: all bytes but those of one JSON string, which is `content` or `text`.
        """
        self._before = self._after = b""
        answer = self.answer
        if answer.failure or not answer.plain_text:
            return
        for name in (b'"content":"', b'"content": "', b'"text":"', b'"text": "'):
            begin, found, rest = event.rpartition(name)
            if found and begin.count(name) == 0:
                text, _, after = rest.partition(b'"')
                if text == answer.plain_text.encode():
                    self._before, self._after = begin + found, b'"' + after
                return

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
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.answer.fail(failures.GARBLED, f"an event is not a chunk: {error}")
            return
        self.answer.chunk(chunk, at)


class BodyReader:
    """Reads a whole answer, or an error's body."""

    __slots__ = ("_body", "answer")

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
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
                    answer.chunk(_decode(self._body), at)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    answer.fail(failures.GARBLED, f"the body is no answer: {error}")
                answer.done = True
        answer.ended(at, in_order=in_order, why=why)
