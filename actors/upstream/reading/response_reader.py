"""What an upstream sends as outputs, and whether the answer is whole. Sans-IO; one reader a call.

An answer has ended when it has a finish reason. Then `[DONE]` or the end of the body, as its framing has it, makes it
whole, and so does a connection that is lost afterwards: all of the text was there. `[DONE]` without a finish reason is
the end of an answer that has said something; a body or a connection that ends without either broke off. Text that
comes after a finish reason needs a new one. The finish is given out with the end, so that nothing which broke off is
ever told as whole.

A body that is one JSON object is an answer that was not streamed, whatever its head says of it.

Tokens have no ids. They are counted by what the upstream reports, if it can be true: the usage, the log-probabilities,
and else one for each event, or one for every eight bytes of an event that holds more. The last output sets an estimate
right.
"""

from collections.abc import Collection

import msgspec

from actors.protocol.outputs import TextDelta
from actors.upstream.failures.failure import Broken, Failure, error_in, garbled, of_event, truncated
from actors.upstream.reading.chunk import Chunk, ChunkChoice, Message, positions_of, read_chunk
from actors.upstream.reading.content_parts import text_of
from actors.upstream.reading.finish_reason import FinishMeaning, ending_of
from actors.upstream.reading.lenient import LenientReader
from actors.upstream.reading.sse import BOM, EventTooLong, SseEvent, SseReader
from actors.upstream.reading.token_count import TokenCounting
from actors.upstream.reading.tool_call_parts import CallParts
from actors.upstream.reading.usage import UsageCounts, counts_of
from engine.core.messages import Finish, TokenLogprobs
from engine.text.tool_calls import ToolCall

_LONGEST_TOKEN = 256
"""Characters. An upstream that says more than so many for each token it may make has lost its way."""
_MOST_CHARACTERS = 4 << 20
_MOST_BYTES = 1 << 30
"""On the wire, whatever was asked for."""
_MOST_OF_A_WHOLE = 16 << 20
"""Bytes of an answer that is one JSON object."""
_LONGEST_WORD = 64
_LONGEST_MODEL = 256
_DONE = frozenset({b"[DONE]", b"DONE"})
_NOT_EVENTS = frozenset({b"ping", b"heartbeat", b"keepalive", b"keep-alive"})


class ResponseReader:
    """Feed it bytes until `done`; when they end, ask `end` or `lost`."""

    def __init__(
        self, sequence_id: int, max_tokens: int, *, offered: Collection[str] = (), logprobs: bool = False
    ) -> None:
        """`offered`: names of the tools that may be called. `logprobs`: they were asked for."""
        self.done = False
        """The answer is whole and its finish was given out."""
        self.broken: Broken | None = None
        """What came after the last output: there will be no other."""
        self.model = ""
        """As the upstream names it."""
        self._is_named = False
        """The first output was given out, with the model's name."""
        self._sequence_id = sequence_id
        self._logprobs = logprobs
        self._sse = SseReader()
        self._body: bytearray | None = None
        """Of an answer that is not streamed."""
        self._began = False
        self._most_characters = min(max_tokens * _LONGEST_TOKEN, _MOST_CHARACTERS)
        self._most_bytes = min((1 << 16) + max_tokens * (1 << 14), _MOST_BYTES)
        self._characters = 0
        self._bytes = 0
        self._counting = TokenCounting(max_tokens)
        self._lenient = LenientReader()
        self._shown: list[str] = []
        """What of it was content ..."""
        self._mused: list[str] = []
        """... and what was reasoning."""
        self._calls = CallParts(offered)
        self._ending: FinishMeaning | None = None
        self._went_on = False
        """After a finish reason, so that one is no sure end here."""
        self._word = ""
        """The finish reason, if it is none that is known."""
        self._stop: str | int | None = None
        self._counts = UsageCounts()
        # Of the piece in hand:
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._positions: list[TokenLogprobs] = []

    @property
    def tokens(self) -> int:
        """Of the answer so far; true when it is `done`."""
        return self._counting.tokens

    @property
    def has_ended(self) -> bool:
        """It has its finish reason; what may still come is usage, and the end."""
        return self._ending is not None

    def feed(self, data: bytes) -> TextDelta | None:
        """What these bytes bring. Raises Broken, if that is all; else look at `broken` afterwards."""
        if self.done:
            return None
        self._bytes += len(data)
        if self._bytes > self._most_bytes:
            raise garbled("it is far longer than was asked for")
        if not self._began:
            self._begin(data)
        if self._body is not None:
            self._body += data
            if len(self._body) > _MOST_OF_A_WHOLE:
                raise garbled("it is far longer than was asked for")
            return None
        before = self._counting.tokens
        try:
            self._take_all(self._events(data))
        except Broken as broken:
            output = self._output(before)
            if output is None:
                raise
            self.broken = broken
            return output
        return self._output(before)

    def end(self) -> TextDelta | None:
        """The body has ended, as its framing says. Raises Broken unless the answer is whole."""
        if self.done:
            return None
        before = self._counting.tokens
        if self._body is not None:
            self._take_whole(bytes(self._body))
        else:
            try:
                self._take_all(self._sse.close())
            except Broken as broken:
                if broken.failure.kind != "upstream_garbled":
                    raise
                # The last event was cut: what came before it decides.
        if self._ending is None:
            raise truncated("it ended without a finish reason")
        self.done = True
        return self._output(before)

    def lost(self) -> TextDelta | None:
        """The connection was lost, or nothing has come for long. Raises Broken unless the answer had ended."""
        if self.done:
            return None
        if self._ending is None or self._went_on:
            raise truncated("the connection was lost")
        self.done = True
        return self._output(self._counting.tokens)

    # --- the body -------------------------------------------------------------------------------------------------

    def _begin(self, data: bytes) -> None:
        """An event stream never begins with a brace or a bracket; nor with what a page begins with."""
        first = data.removeprefix(BOM).lstrip()[:1]
        if first:
            self._began = True
            if first == b"<":
                raise garbled("it is a page, and no event stream")
            if first in {b"{", b"["}:
                self._body = bytearray()

    def _events(self, data: bytes) -> list[SseEvent]:
        try:
            return self._sse.feed(data)
        except EventTooLong:
            raise garbled("an event is too long") from None

    def _take_all(self, events: list[SseEvent]) -> None:
        for event in events:
            if self.done:
                break
            self._take(event)

    def _take(self, event: SseEvent) -> None:
        data = event.data
        if not event.name and data.startswith(b"{"):
            self._take_chunk(data)
            return
        data = data.strip()
        if not data or event.name in _NOT_EVENTS:
            return
        if data.strip(b'"').upper() in _DONE:
            if self._ending is None and not self._counting:
                raise truncated("[DONE] came without a finish reason")
            self.done = True
            return
        if event.name == b"error":
            raise Broken(of_event(data))
        self._take_chunk(data)

    def _take_whole(self, body: bytes) -> None:
        body = body.removeprefix(BOM)
        self._take_chunk(body)
        if self._ending is None and not self._counting:
            # No answer: then it says why, in words of its own.
            failure = of_event(body)
            if failure.said.words:
                raise Broken(failure)
        if self._ending is None and self._counting:
            # It is whole by its form, and some servers give no reason then.
            self._ending = ending_of("stop")

    def _take_chunk(self, data: bytes) -> None:
        chunk = read_chunk(data) or self._read_leniently(data)
        if chunk is None:
            return
        if chunk.error or chunk.choices is None:
            # Also an error in one of the forms that hold no "error".
            failure = error_in(data)
            if failure is not None:
                raise Broken(failure)
        if not self.model and isinstance(chunk.model, str):
            self.model = chunk.model[:_LONGEST_MODEL]
        if chunk.usage is not None or chunk.timings is not None:
            self._counts = self._counts.then(counts_of(usage=chunk.usage, timings=chunk.timings))
        if isinstance(chunk.x_groq, dict):
            self._counts = self._counts.then(counts_of(usage=chunk.x_groq.get("usage")))
        for choice in chunk.choices or ():
            self._choice(choice)

    def _read_leniently(self, data: bytes) -> Chunk | None:
        """None: it was several events, and all of them are taken. Raises Broken."""
        failure = error_in(data)
        if failure is not None:
            raise Broken(failure)
        chunk = self._lenient.read(data)
        if chunk is not None:
            return chunk
        lines = [line for line in data.splitlines() if line.strip()]
        if len(lines) < 2 or not all(each.startswith((b"{", b"data:", b"[DONE]")) for each in lines):
            raise garbled("an event is not a chunk of a completion")
        # Lines of JSON, or events without an empty line between them.
        for line in lines:
            if not self.done:
                self._take(SseEvent(b"", line.removeprefix(b"data:").strip()))
        return None

    # --- what a choice says -----------------------------------------------------------------------------------------

    def _choice(self, choice: ChunkChoice) -> None:
        if choice.index:
            raise garbled("it holds a choice that nobody asked for")
        if choice.error:
            raise Broken(of_event(msgspec.json.encode({"error": choice.error})))
        text, thought, called = "", "", ""
        if choice.delta is not None:
            text, thought = text_of(choice.delta)
            if choice.delta.tool_calls or choice.delta.function_call is not None:
                called = self._parts(choice.delta)
        if choice.message is not None:
            more, thinking, calls = self._rest_of(choice.message, text, thought)
            text, thought, called = text + more, thought + thinking, called + calls
        if not text and choice.text and choice.message is None:
            # Of a text completion; of chat some servers say here what is in the delta, too.
            text = choice.text
        positions = positions_of(choice.logprobs) if self._logprobs and choice.logprobs else []
        if text or thought or called or positions:
            self._say(text, thought, called, positions)
        if choice.usage:
            self._counts = self._counts.then(counts_of(usage=choice.usage))
        if choice.finish_reason is not None:
            self._finish_reason(choice)

    def _say(self, text: str, thought: str, called: str, positions: list[TokenLogprobs]) -> None:
        if self._ending is not None:
            self._ending, self._went_on = None, True
        said = text + thought + called
        if text:
            self._texts.append(text)
            self._shown.append(text)
        if thought:
            self._thoughts.append(thought)
            self._mused.append(thought)
        self._positions += positions
        self._characters += len(said)
        if self._characters > self._most_characters:
            raise garbled("it says far more than was asked for")
        self._counting.add(said, len(positions))

    def _parts(self, message: Message) -> str:
        """Pieces of tool calls are kept; what they say."""
        if message.tool_calls:
            calls = message.tool_calls
            return self._calls.take(calls if isinstance(calls, list) else [calls])
        if message.function_call is not None:
            return self._calls.take_function(message.function_call)
        return ""

    def _rest_of(self, message: Message, text: str, thought: str) -> tuple[str, str, str]:
        """What of a whole message was not said yet: servers send one at the end, or the answer so far each time."""
        said, mused = text_of(message)
        shown = "".join(self._shown) + text
        if text and not said.startswith(shown):
            said = ""
        called = "" if self._calls else self._parts(message)
        return said.removeprefix(shown), mused.removeprefix("".join(self._mused) + thought), called

    def _finish_reason(self, choice: ChunkChoice) -> None:
        ending = ending_of(choice.finish_reason)
        if ending is None:
            return
        if ending.trouble is not None:
            raise Broken(_trouble(ending, str(choice.finish_reason)[:_LONGEST_WORD], said=bool(self._counting)))
        if ending.calls and not self._counting:
            raise garbled("it ended with tool calls and made none", by_model=True)
        self._ending = ending
        self._word = "" if ending.known else str(choice.finish_reason)[:_LONGEST_WORD]
        if isinstance(choice.stop_reason, str | int):
            self._stop = choice.stop_reason

    # --- what goes out ------------------------------------------------------------------------------------------------

    def _output(self, before: int) -> TextDelta | None:
        """What has come since the last one."""
        finish: Finish | None = None
        calls: tuple[ToolCall, ...] = ()
        if self.done:
            finish = self._finish()
            calls = self._calls.whole(cut=finish.reason == "length")
        text = "".join(self._texts)
        count = self._counting.tokens - before
        self._texts.clear()
        if not self._thoughts and not self._positions and self._is_named:
            if not text and not count and finish is None:
                return None
            return TextDelta(self._sequence_id, text, count, (), finish, self._word, calls)
        thought, positions = "".join(self._thoughts), tuple(self._positions)
        self._thoughts.clear()
        self._positions.clear()
        if not text and not thought and not positions and not count and finish is None:
            return None
        self._is_named = True
        return TextDelta(self._sequence_id, text, count, positions, finish, self._word, calls, thought, self.model)

    def _finish(self) -> Finish:
        counts = self._counts
        self._counting.settle(counts)
        return Finish(
            reason=self._ending.reason if self._ending is not None else "stop",
            prompt_tokens=counts.prompt,
            completion_tokens=self._counting.tokens,
            cached_tokens=counts.cached,
            stop=self._stop,
        )


def _trouble(ending: FinishMeaning, word: str, *, said: bool) -> Failure:
    """The failure that a finish reason tells of."""
    told = f"its finish reason is '{word}'"
    if ending.trouble == "broke_off":
        return truncated(told).failure
    if ending.trouble == "load" and not said:
        return Failure(kind="upstream_busy", message=f"The upstream is busy: {told}.", retry_after_s=1.0)
    return Failure(kind="upstream_failed", message=f"The upstream broke off with an error: {told}.")
