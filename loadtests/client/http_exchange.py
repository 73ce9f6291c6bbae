"""One HTTP response, as bytes arrive: its head begins the answer, its body goes to the reader of its kind. Sans-IO."""

from collections.abc import Callable

from actors.upstream.http.errors import HttpCallError, InvalidResponseError
from actors.upstream.http.response_parser import ResponseParser
from loadtests.client import failures
from loadtests.client.answer import Answer
from loadtests.client.event_reader import BodyReader, EventReader
from loadtests.client.known_event import KnownEvent

_WITHOUT_BODY = frozenset({204, 205})


class HttpExchange:
    """`take` bytes until it returns False."""

    def __init__(self, answer: Answer, *, streamed: bool, stop: Callable[[], bool] | None = None) -> None:
        """`streamed`: events are expected. `stop`: whether the client leaves now; None: it never does."""
        self.answer = answer
        self._streamed = streamed
        self._stop = stop
        self._parser = ResponseParser()
        self._reader: EventReader | BodyReader | None = None
        self._known: KnownEvent | None = None
        """Of events that come as a chunk each, as long as the parser is between two chunks; None: it may not be."""
        self.received = False
        """Whether any byte has arrived."""

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request."""
        return self._parser.response.reusable

    def take(self, data: bytes, at: float) -> bool:
        """Read bytes that arrived at this time. Returns whether to read on."""
        known = self._known
        if known is not None:
            texts = known.texts_in_chunks(data)
            if texts is not None:
                # What parsing them would have shown. The parser stays where it is: between two chunks.
                answer = self.answer
                for text in texts:
                    answer.content(text.decode() if answer.keep_text else "", at)
                return not answer.failure and (self._stop is None or not self._stop())
            self._known = None
        return self._parse(data, at)

    def _parse(self, data: bytes, at: float) -> bool:
        parser = self._parser
        try:
            body = parser.feed(data)
            if not data:
                self._end(at, in_order=True)
                return False
            reader = self._reader
            if reader is None:
                self.received = True
                if not parser.response.status:
                    return True
                reader = self._begin(at)
            go_on = reader.feed(body, at) if body else True
            if parser.response.complete:
                self._end(at, in_order=True)
                return False
            if isinstance(reader, EventReader) and reader.is_between_events and _is_chunk(data, body):
                self._known = reader.known
            return go_on and (self._stop is None or not self._stop())
        except InvalidResponseError as error:
            self.answer.fail(failures.GARBLED, str(error))
            self._end(at, in_order=False)
        except HttpCallError as error:
            self._end(at, in_order=False, why=str(error))
        return False

    def lost(self, at: float, why: str) -> None:
        """The connection has failed."""
        self._end(at, in_order=False, why=why)

    def _begin(self, at: float) -> EventReader | BodyReader:
        answer, response = self.answer, self._parser.response
        status, kind = response.status, response.headers.get("content-type", "").lower()
        answer.begin(status, response.headers, at)
        is_stream = kind.startswith("text/event-stream")
        is_unwanted = status == 200 and is_stream != self._streamed
        may_be_error = is_unwanted and "json" in kind
        if 300 <= status < 400:
            where = response.headers.get("location", "nowhere")
            answer.fail(failures.REFUSED, f"a redirect to {where}: it is not followed; give the address that answers")
        elif status in _WITHOUT_BODY:
            answer.fail(failures.REFUSED, "this status has no answer")
        elif is_unwanted and not may_be_error:
            answer.fail(failures.WRONG_TYPE, f"the content type is {kind or 'none'}")
        self._reader = EventReader(answer) if is_stream and status == 200 else BodyReader(answer, may_be_error)
        return self._reader

    def _end(self, at: float, *, in_order: bool, why: str = "") -> None:
        if self._reader is None:
            self.answer.ended(at, in_order=False, why=why)
        else:
            self._reader.end(at, in_order=in_order, why=why)


def _is_chunk(data: bytes, body: bytes) -> bool:
    """Whether the parser has read one whole chunk: then, as it took nothing else for the body, it is behind its end."""
    return data.endswith(b"\r\n") and data == b"%x\r\n%b\r\n" % (len(body), body)
