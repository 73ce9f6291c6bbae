"""Parses an upstream's response into outputs, and decides whether the answer is complete. Sans-IO; one per call.

An answer has ended when it has a finish reason. `[DONE]`, the end of the body, or even a lost connection after it
completes the answer, because all of its text has arrived. `[DONE]` without a finish reason completes an answer that has
content; otherwise a body or connection that ends without either is truncated. Text after a finish reason needs a new
one. The finish is emitted with the end, so that a truncated answer is never reported as complete.

A body that is one JSON object is an answer that was not streamed, whatever its Content-Type.

Tokens have no ids. They are counted by the upstream's usage if it is plausible, else by log-probabilities, else one per
event, or one per eight bytes of a longer event. The last output corrects the estimate.
"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from actors.api.extra_fields import is_too_deep
from actors.protocol.delivery import TextDelta
from actors.upstream.failures.failure import Failure, UpstreamCallError, error_in, garbled, of_event, truncated
from actors.upstream.reading.chunk import (
    Chunk,
    ChunkChoice,
    Message,
    PlainChunk,
    read_chunk,
    read_plain_chunk,
    token_logprobs_of,
)
from actors.upstream.reading.content_parts import refuses, text_of
from actors.upstream.reading.event_template import EventTemplate
from actors.upstream.reading.extra_fields_reader import ExtraFieldsReader
from actors.upstream.reading.finish_reason import FinishMeaning, finish_meaning
from actors.upstream.reading.lenient_chunk import LenientReader
from actors.upstream.reading.sse import BOM, EventTooLong, SseEvent, SseReader
from actors.upstream.reading.tool_call_assembler import ToolCallAssembler
from actors.upstream.reading.usage import TokenCounter, UsageCounts, counts_of
from engine.messages import Finish, TokenLogprobs
from engine.text.tool_calls import ToolCall

_LARGE_ANSWER = 4096
"""Tokens for which every answer has room: servers whose `max_tokens` does not limit the reasoning send many more."""
_MAX_CHARACTERS_PER_TOKEN = 256
_MAX_CHARACTERS = 4 << 20
_MAX_BYTES = 1 << 30
"""Maximum size of a body, for any `max_tokens`."""
_MAX_JSON_BYTES = 16 << 20
"""Maximum bytes of an answer that is one JSON object."""
_MAX_EXTRA_BYTES = 16 << 20
"""Maximum bytes of events with fields that are passed on unread: images, sounds."""
_FLAT = 64
"""So many brackets are never nested too deeply."""
_EVENTS_TO_LEARN = 4
"""The first of these that has only text is the template of those after it."""
_MAX_FINISH_WORD = 64
_MAX_MODEL_NAME = 256
_DONE = frozenset({b"[DONE]", b"DONE"})
_FAILURE_NAMES = frozenset({b"error", b"exception", b"failed", b"failure", b"fatal"})
"""Event names, and the last parts of such names after a dot."""
_KEEP_ALIVE = frozenset({b"ping", b"pong", b"heartbeat", b"keepalive", b"keep-alive", b"keep_alive"})
"""Event names; data may be one of these, too."""
_NO_DATA = _KEEP_ALIVE | {b"", b"null", b"none", b"undefined"}
_STATE_NAMES = frozenset({b"status", b"progress", b"queue", b"info", b"comment"})
"""Names of events that are no part of the answer if their data is a plain word."""
_decode = msgspec.json.Decoder().decode
_KNOWN_FIELDS = frozenset({
    "id", "object", "created", "model", "system_fingerprint", "provider", "service_tier", "choices", "usage", "timings",
    "x_groq", "citations", "search_results", "prompt_filter_results", "request_id",
})  # fmt: skip
"""An object with other fields, and without a choice, may be the error of a server in a form that is not known."""


class ResponseReader:
    """Pass bytes to `feed` until `done`; if they end earlier, call `end` or `lost`."""

    def __init__(
        self,
        sequence_id: int,
        max_tokens: int,
        *,
        offered: Collection[str] = (),
        logprobs: bool = False,
        extra_fields: bool = True,
    ) -> None:
        """`offered`: names of the tools that may be called. `logprobs`: they were requested.

        `extra_fields`: pass on what is not read here.
        """
        self.done = False
        """The answer is complete, and its finish was emitted."""
        self.error: UpstreamCallError | None = None
        """Error in what followed the last output; no further output will come."""
        self.model = ""
        """The name that the upstream gives its model."""
        self._is_named = False
        """The first output, which carries the model's name, was emitted."""
        self._sequence_id = sequence_id
        self._logprobs = logprobs
        self._sse = SseReader()
        self._template: EventTemplate | None = None
        self._unlearned = _EVENTS_TO_LEARN
        self._body: bytearray | None = None
        """The body of an answer that is not streamed."""
        self._began = False
        room = max(max_tokens, _LARGE_ANSWER)
        self._max_characters = min(room * _MAX_CHARACTERS_PER_TOKEN, _MAX_CHARACTERS)
        self._max_bytes = min(room * (1 << 14), _MAX_BYTES)
        self._characters = 0
        self._bytes = 0
        self._counter = TokenCounter(max_tokens)
        self._lenient: LenientReader | None = None
        """Made for the first chunk that needs it."""
        self._content: list[str] = []
        """Content so far ..."""
        self._reasoning: list[str] = []
        """... and reasoning so far."""
        self._calls = ToolCallAssembler(offered)
        self._extras = ExtraFieldsReader() if extra_fields else None
        self._is_plain = extra_fields
        """All events so far have no field that is passed on."""
        self.ending: FinishMeaning | None = None
        """Set by a finish reason: only usage and the end may follow."""
        self._resumed = False
        """There was content after a finish reason, so a finish reason does not prove the end."""
        self._not_understood = False
        """There was an event of an unknown kind: without a finish reason, it may have been the answer's failure."""
        self._word = ""
        """The finish reason if it is an unknown one."""
        self._refuses = False
        """The text is a refusal."""
        self._stop: str | int | None = None
        self._counts = UsageCounts()
        # Since the last output:
        self._new_texts: list[str] = []
        self._new_reasoning: list[str] = []
        self._positions: list[TokenLogprobs] = []

    @property
    def has_ended(self) -> bool:
        """All of the answer has arrived: whatever follows, or fails to follow, the answer is complete."""
        return self.ending is not None and not self._resumed

    @property
    def tokens(self) -> int:
        """Tokens of the answer so far; exact when `done`."""
        return self._counter.tokens

    def feed(self, data: bytes) -> TextDelta | None:
        """The output of these bytes. Raises UpstreamCallError if there is none; with one, the error is in `error`."""
        if self.done:
            return None
        before = self._counter.tokens
        try:
            self._bytes += len(data)
            if self._bytes > (self._max_bytes if self._body is None else _MAX_JSON_BYTES):
                raise _too_long()
            if not self._began:
                self._begin(data)
            if self._body is not None:
                self._body += data
                return None
            self._take_stream(data)
        except UpstreamCallError as error:
            if self.has_ended:
                self.done = True
                return self._output(before)
            output = self._output(before)
            if output is None:
                raise
            self.error = error
            return output
        return self._output(before)

    def end(self) -> TextDelta | None:
        """The body has ended according to its framing. Raises UpstreamCallError unless the answer is complete."""
        if self.done:
            return None
        before = self._counter.tokens
        if self._body is not None:
            self._take_whole(bytes(self._body))
        else:
            try:
                self._take_all(self._sse.close())
            except UpstreamCallError as error:
                if error.failure.kind != "upstream_garbled" and not self.has_ended:
                    raise
                # The last event was truncated, or came after the end; those before it decide.
        if self.ending is None:
            raise truncated("it ended without a finish reason")
        self.done = True
        return self._output(before)

    def lost(self) -> TextDelta | None:
        """Nothing more will be read. Raises UpstreamCallError unless the answer had ended."""
        if self.done:
            return None
        if not self.has_ended:
            raise truncated("the connection was lost")
        self.done = True
        return self._output(self._counter.tokens)

    # --- the body -------------------------------------------------------------------------------------------------

    def _begin(self, data: bytes) -> None:
        """Detect the form by the first byte: an event stream does not begin with a brace, a bracket or "<"."""
        first = data.removeprefix(BOM).lstrip()[:1]
        if first:
            self._began = True
            if first == b"<":
                raise garbled("it is an HTML page, not an event stream")
            if first in {b"{", b"["}:
                self._body = bytearray()

    def _take_stream(self, data: bytes) -> None:
        while self._unlearned and self._template is None:
            # One event at a time: as soon as one is known, those after it need not be parsed.
            self._unlearned -= 1
            end = data.find(b"\n\n") + 2
            self._take_all(self._events(data[:end] if end > 1 else data))
            data = data[end:] if end > 1 else b""
            if not data:
                return
        if self._template is not None and self.ending is None and self._sse.between_events:
            texts, data = self._template.match(data)
            self._add_all(texts)
        if data:
            self._take_all(self._events(data))

    def _events(self, data: bytes) -> list[SseEvent]:
        try:
            return self._sse.feed(data)
        except EventTooLong:
            raise _too_long() from None

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
        data, name = data.strip(), event.name.strip().lower()
        if name.rpartition(b".")[2] in _FAILURE_NAMES:
            raise UpstreamCallError(of_event(data))
        if name in _KEEP_ALIVE or (len(data) < 16 and data.strip(b'"[]').lower() in _NO_DATA):
            return
        if data.strip(b'"').upper() in _DONE:
            if self.ending is None and (not self._counter or self._not_understood):
                raise truncated("[DONE] came without a finish reason")
            self.done = True
            return
        if name in _STATE_NAMES and not data.startswith(b"{"):
            return
        self._take_chunk(data)

    def _take_whole(self, body: bytes) -> None:
        body = body.removeprefix(BOM)
        self._take_chunk(body)
        if self.ending is None and not self._counter:
            # No answer: then the object may be an error in an unknown form.
            failure = of_event(body)
            if failure.upstream_error.message:
                raise UpstreamCallError(failure)
        if self.ending is None and self._counter:
            # A whole response is complete by its form, and some servers omit the finish reason.
            self.ending = finish_meaning("stop")

    def _take_chunk(self, data: bytes) -> None:
        try:
            self._take_one(data)
        except RecursionError:
            raise garbled("it is nested too deeply") from None

    def _take_one(self, data: bytes) -> None:
        chunk: Chunk | None = read_plain_chunk(data) if self._is_plain else None
        event: Mapping[str, Any] | None = None
        if chunk is None:
            # Nearly all events of an answer have the same fields.
            self._is_plain = False
            chunk = read_chunk(data)
        if chunk is None:
            chunk = self._read_leniently(data)
            if chunk is None or self._lenient is None:
                return
            event = self._lenient.event
        if chunk.error or not chunk.choices:
            # Errors in forms without an "error" key.
            failure = error_in(data)
            if failure is not None:
                raise UpstreamCallError(failure)
            self._not_understood = self._not_understood or not _is_harmless(data)
        if not self.model and isinstance(chunk.model, str):
            self.model = chunk.model[:_MAX_MODEL_NAME]
        if chunk.usage is not None or chunk.timings is not None:
            self._counts = self._counts.then(counts_of(usage=chunk.usage, timings=chunk.timings))
        if isinstance(chunk.x_groq, dict):
            self._counts = self._counts.then(counts_of(usage=chunk.x_groq.get("usage")))
        for choice in chunk.choices or ():
            self._choice(choice)
        if self._extras is not None:
            if type(chunk) is PlainChunk:
                if chunk.usage is not None:
                    self._extras.take_usage(chunk.usage)
            elif self._take_extras(self._extras, _decoded(data) if event is None else event, len(data)):
                return
        if self._template is None and self._unlearned and self._body is None and self._new_texts:
            text = self._new_texts[-1]
            self._template = EventTemplate.of(data, text) if _is_text_only(chunk, text) else None

    @staticmethod
    def _take_extras(extras: ExtraFieldsReader, event: Mapping[str, Any], size: int) -> bool:
        """Whether the event has more of the message than is read here."""
        if not extras.take(event, size):
            return False
        if extras.bytes > _MAX_EXTRA_BYTES:
            raise _too_long()
        return True

    def _read_leniently(self, data: bytes) -> Chunk | None:
        """Parse leniently. None: it was several events, which were all processed. Raises UpstreamCallError."""
        failure = error_in(data)
        if failure is not None:
            raise UpstreamCallError(failure)
        if self._lenient is None:
            self._lenient = LenientReader()
        chunk = self._lenient.read(data)
        if chunk is not None:
            return chunk
        lines = [line for line in data.splitlines() if line.strip()]
        if len(lines) < 2 or not all(line.startswith((b"{", b"data:", b"[DONE]")) for line in lines):
            raise garbled("an event is not a chunk of a completion")
        # Lines of JSON, or events that are not separated by an empty line.
        for line in lines:
            if not self.done:
                self._take(SseEvent(b"", line.removeprefix(b"data:").strip()))
        return None

    # --- a choice ---------------------------------------------------------------------------------------------------

    def _choice(self, choice: ChunkChoice) -> None:
        if choice.index:
            raise garbled("it has a choice that was not requested")
        if choice.error:
            raise UpstreamCallError(of_event(msgspec.json.encode({"error": choice.error})))
        text, reasoning, called = "", "", ""
        if choice.delta is not None:
            text, reasoning = text_of(choice.delta)
            self._refuses = self._refuses or refuses(choice.delta)
            if choice.delta.tool_calls or choice.delta.function_call is not None:
                called = self._parts(choice.delta)
        if choice.message is not None:
            self._refuses = self._refuses or refuses(choice.message)
            more, thinking, calls = self._unstreamed(choice.message, text, reasoning)
            text, reasoning, called = text + more, reasoning + thinking, called + calls
        if not text and choice.text and choice.message is None:
            # Text completion; some servers repeat the delta's content here in chat chunks.
            text = choice.text
        positions = token_logprobs_of(choice.logprobs) if self._logprobs and choice.logprobs else []
        if text or reasoning or called or positions:
            self._add(text, reasoning, called, positions)
        if choice.usage:
            self._counts = self._counts.then(counts_of(usage=choice.usage))
            if self._extras is not None:
                self._extras.take_usage(choice.usage)
        if choice.finish_reason is not None:
            self._finish_reason(choice)

    def _add(self, text: str, reasoning: str, called: str, positions: list[TokenLogprobs]) -> None:
        if self.ending is not None:
            self.ending, self._resumed = None, True
        added = text + reasoning + called
        if text:
            self._new_texts.append(text)
            self._content.append(text)
        if reasoning:
            self._new_reasoning.append(reasoning)
            self._reasoning.append(reasoning)
        self._positions += positions
        self._counter.add(added, len(positions))
        self._count_characters(len(added))

    def _add_all(self, texts: list[str]) -> None:
        """Several events that have only text."""
        self._new_texts += texts
        self._content += texts
        self._counter.add_all(texts)
        self._count_characters(sum(map(len, texts)))

    def _count_characters(self, count: int) -> None:
        self._characters += count
        if self._characters > self._max_characters:
            raise _too_long()

    def _parts(self, message: Message) -> str:
        """Keep fragments of tool calls; returns their text, for counting."""
        if message.tool_calls:
            calls = message.tool_calls
            return self._calls.take(calls if isinstance(calls, list) else [calls])
        if message.function_call is not None:
            return self._calls.take_function(message.function_call)
        return ""

    def _unstreamed(self, message: Message, new_text: str, new_reasoning: str) -> tuple[str, str, str]:
        """The part of a whole message that was not streamed: some send one at the end, or all content each time."""
        content, reasoning = text_of(message)
        streamed = "".join(self._content) + new_text
        if new_text and not content.startswith(streamed):
            content = ""
        called = "" if self._calls else self._parts(message)
        return content.removeprefix(streamed), reasoning.removeprefix("".join(self._reasoning) + new_reasoning), called

    def _finish_reason(self, choice: ChunkChoice) -> None:
        ending = finish_meaning(choice.finish_reason)
        if ending is None:
            return
        if ending.abnormal is not None:
            raise UpstreamCallError(
                _abnormal_end(ending, str(choice.finish_reason)[:_MAX_FINISH_WORD], has_content=bool(self._counter))
            )
        if ending.calls and not self._counter:
            raise garbled("it announced tool calls but sent none", by_model=True)
        self.ending = ending
        self._word = "" if ending.known else str(choice.finish_reason)[:_MAX_FINISH_WORD]
        if isinstance(choice.stop_reason, str | int):
            self._stop = choice.stop_reason

    # --- output -------------------------------------------------------------------------------------------------------

    def _output(self, before: int) -> TextDelta | None:
        """Everything since the last output; None: nothing."""
        finish: Finish | None = None
        calls: tuple[ToolCall, ...] = ()
        if self.done:
            finish = self._finish()
            calls = self._calls.whole(cut=finish.reason == "length")
        text = "".join(self._new_texts)
        count = self._counter.tokens - before
        self._new_texts.clear()
        extras = None
        if self._extras is not None and (
            text or self._new_reasoning or self._positions or finish is not None or self._extras.has_content
        ):
            extras = self._extras.take_out(at_end=self.done)
        if not self._new_reasoning and not self._positions and self._is_named and not self._refuses and extras is None:
            if not text and not count and finish is None:
                return None
            return TextDelta(self._sequence_id, text, count, (), finish, self._word, calls)
        thought, positions = "".join(self._new_reasoning), tuple(self._positions)
        self._new_reasoning.clear()
        self._positions.clear()
        if not text and not thought and not positions and not count and finish is None and extras is None:
            return None
        self._is_named = True
        return TextDelta(
            self._sequence_id,
            text,
            count,
            positions,
            finish,
            self._word,
            calls,
            thought,
            self.model,
            self._refuses,
            extras,
        )

    def _finish(self) -> Finish:
        counts = self._counts
        self._counter.settle(counts)
        return Finish(
            reason=self.ending.reason if self.ending is not None else "stop",
            prompt_tokens=counts.prompt,
            completion_tokens=self._counter.tokens,
            cached_tokens=counts.cached,
            stop=self._stop,
            reasoning_tokens=min(counts.reasoning, self._counter.tokens),
        )


def _decoded(data: bytes) -> Mapping[str, Any]:
    """The fields of an event; none if it has numbers that no JSON reader takes, or is nested too deeply."""
    try:
        event = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    if not isinstance(event, Mapping) or (data.count(b"[") + data.count(b"{") > _FLAT and is_too_deep(event)):
        return {}
    return event


def _is_harmless(data: bytes) -> bool:
    """Whether all that an event without a choice says is known, or is a keep-alive."""
    try:
        fields = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if not isinstance(fields, dict):
        return False
    kind = str(fields.get("type") or fields.get("event")).lower().encode()
    return kind in _KEEP_ALIVE or all(name in _KNOWN_FIELDS for name, value in fields.items() if value)


def _is_text_only(chunk: Chunk, text: str) -> bool:
    """Whether the chunk says nothing beside `text`, apart from names and times."""
    match chunk:
        case Chunk(
            choices=[
                ChunkChoice(
                    delta=Message(
                        content=str() as content,
                        refusal=None,
                        reasoning_content=None,
                        reasoning=None,
                        reasoning_details=None,
                        thinking=None,
                        tool_calls=None,
                        function_call=None,
                    ),
                    message=None,
                    text=None,
                    finish_reason=None,
                    usage=None,
                    error=None,
                ) as choice
            ],
            usage=None,
            x_groq=None,
            timings=None,
            error=None,
        ):
            return content == text and not token_logprobs_of(choice.logprobs)
    return False


def _too_long() -> UpstreamCallError:
    """A prompt can make a model write without end, so this is no evidence against the upstream."""
    return garbled("it is longer than the limit", by_model=True)


def _abnormal_end(ending: FinishMeaning, word: str, *, has_content: bool) -> Failure:
    """The failure for an abnormal finish reason."""
    cause = f"its finish reason is '{word}'"
    if ending.abnormal == "broke_off":
        return truncated(cause).failure
    if ending.abnormal == "by_model":
        return garbled(cause, by_model=True).failure
    if ending.abnormal == "load" and not has_content:
        return Failure(kind="upstream_busy", message=f"The upstream is busy: {cause}.", retry_after_s=1.0)
    return Failure(kind="upstream_failed", message=f"The upstream ended its answer with an error: {cause}.")
