"""One answer as it arrives: what was said, when, and what is wrong with it. Sans-IO.

Readers of each transport turn bytes into calls of `chunk`, `done` and `ended`; what they share is judged here.
"""

from array import array
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from loadtests.client import failures
from loadtests.client.answer_json import MOST, UNREADABLE, bounded

_SHOWN = 300
_MOST_TEXT = 4 * 2**20
"""Characters of an answer that are kept for a session's next turn."""
_MOST_EVENTS = 1 << 20
_NOTHING = msgspec.Raw(b"")
_EMPTY = frozenset({b"", b"null", b"[]"})


Tokens = Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class AnswerUsage(msgspec.Struct, frozen=True):
    """What the server counted."""

    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    total_tokens: Tokens | None = None
    prompt_tokens_details: msgspec.Raw = _NOTHING
    cost: msgspec.Raw = _NOTHING

    @property
    def cached_tokens(self) -> int:
        """Of the prompt, as far as the server says it."""
        details = _or_none(self.prompt_tokens_details)
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        return max(min(cached, self.prompt_tokens or 0), 0) if isinstance(cached, int) else 0

    @property
    def money(self) -> float | None:
        """What the answer cost, if the server says it (`cost`, as OpenRouter does)."""
        cost = bounded(_or_none(self.cost))
        return cost if cost is not None and cost >= 0 else None

    @property
    def is_readable(self) -> bool:
        """Whether what was not decoded at once can be."""
        try:
            cost = _or_none(self.cost)
            _or_none(self.prompt_tokens_details)
        except UNREADABLE:
            return False
        return not isinstance(cost, int | float) or bounded(cost) is not None


class ChunkDelta(msgspec.Struct, frozen=True):
    """New text, in any of the forms that servers use."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: msgspec.Raw = _NOTHING


class AnswerChoice(msgspec.Struct, frozen=True):
    """Of a chat (`delta`), of a text completion (`text`), or of a whole answer (`message`)."""

    index: Tokens = 0
    delta: ChunkDelta | None = None
    message: ChunkDelta | None = None
    text: str | None = None
    finish_reason: str | None = None


class ServerAttempt(msgspec.Struct, frozen=True):
    """One of Penstock's attempts."""

    rung: str = ""
    outcome: str = ""


class ServerSaid(msgspec.Struct, frozen=True):
    """Of Penstock's field about who answered."""

    rung: str = ""
    attempts: tuple[ServerAttempt, ...] = ()
    degraded: tuple[str, ...] = ()
    timings: dict[str, Any] | None = None


class AnswerChunk(msgspec.Struct, frozen=True):
    """What is looked at in an event, or in a whole answer; everything else is skipped without being decoded."""

    choices: tuple[AnswerChoice, ...] | None = ()
    usage: AnswerUsage | None = None
    error: msgspec.Raw = _NOTHING
    penstock: ServerSaid | None = None
    timings: dict[str, Any] | None = None

    @property
    def has_error(self) -> bool:
        return bytes(self.error) not in _EMPTY


class Answer:
    """What is known so far. `failure` is a name of `failures`, or "" as long as nothing is wrong."""

    __slots__ = (
        *(
            "begun_s",
            "closed",
            "code",
            "degraded",
            "detail",
            "done",
            "end_s",
            "escalated",
            "events",
            "failure",
        ),
        *(
            "begun",
            "finished",
            "first_s",
            "keep_text",
            "last_event_s",
            "max_tokens",
            "number",
            "one_token_events",
            "own_fault",
            "plain_index",
            "plain_text",
            "text_size",
        ),
        *("retry_after", "rung", "server", "should_retry", "status", "stream_id", "text", "timings", "times", "usage"),
    )

    def __init__(self, *, max_tokens: int = 0, keep_text: bool = False, one_token_events: bool = False) -> None:
        """`max_tokens`: those asked for; 0: any. `one_token_events`: each event with content is one token."""
        self.status = 0
        self.failure = ""
        self.detail = ""
        self.code = ""
        self.retry_after = ""
        self.should_retry = ""
        self.stream_id = ""
        self.server = ""
        self.own_fault = ""
        """What the load tester could not do, which is no failure of the server."""
        self.number: int | None = None
        """Of the last numbered event."""
        self.rung = ""
        self.escalated = False
        self.degraded = False
        self.begun_s = self.last_event_s = 0.0
        self.first_s: float | None = None
        self.end_s: float | None = None
        self.times = array("d")
        """When each event with content arrived."""
        self.events = 0
        self.begun: set[int] = set()
        """Choices that have content."""
        self.finished: set[int] = set()
        """Choices that have a finish reason."""
        self.done = False
        self.closed = False
        """It has ended, in whatever way."""
        self.usage: AnswerUsage | None = None
        self.timings: dict[str, float] = {}
        self.keep_text = keep_text
        self.text: list[str] = []
        self.text_size = 0
        self.plain_text = ""
        """That of the last chunk, if it was text of one choice and nothing else."""
        self.plain_index = 0
        """The choice of the last chunk."""
        self.max_tokens = max_tokens
        self.one_token_events = one_token_events

    @property
    def complete(self) -> bool:
        """It has ended as it should."""
        return self.closed and not self.failure

    @property
    def output_tokens(self) -> int:
        """As the server counts them; else the events with content."""
        if self.usage is not None and self.usage.completion_tokens is not None:
            return self.usage.completion_tokens
        return len(self.times)

    @property
    def prompt_tokens(self) -> int:
        return (self.usage.prompt_tokens or 0) if self.usage is not None else 0

    def fail(self, name: str, detail: str = "") -> None:
        """The first thing that is wrong counts."""
        if not self.failure:
            self.failure = name
            self.detail = detail[:_SHOWN]

    def begin(self, status: int, headers: Mapping[str, str], at: float) -> None:
        """The head of the response."""
        self.status = status
        self.begun_s = self.last_event_s = at
        self.retry_after = headers.get("retry-after-ms", "") and f"{headers['retry-after-ms']}ms"
        self.retry_after = self.retry_after or headers.get("retry-after", "")
        self.server = headers.get("server", "")
        self.should_retry = headers.get("x-should-retry", "")
        self.stream_id = headers.get("x-penstock-stream", "")
        self.rung = headers.get("x-penstock-rung", self.rung)
        self.degraded = self.degraded or "x-penstock-degraded" in headers

    def event_number(self, number: int) -> None:
        """The number of a numbered event."""
        last = 0 if self.number is None else self.number
        if number <= last:
            self.fail(failures.DOUBLED_EVENT, f"event {number} came after event {last}")
        elif number > last + 1:
            self.fail(failures.MISSING_EVENT, f"event {number} came after event {last}")
        self.number = number

    def chunk(self, chunk: AnswerChunk, at: float) -> None:
        """One event, or a whole answer."""
        self.events += 1
        self.last_event_s = at
        self.plain_text = ""
        if self.done:
            self.fail(failures.EARLY_DONE, "an event came after [DONE]")
        if chunk.has_error:
            self.error(bytes(chunk.error))
            return
        choices = chunk.choices or ()
        for choice in choices:
            text = _text(choice)
            if text:
                self._content(text, at, choice.index)
            if choice.finish_reason:
                self.finished.add(choice.index)
        if chunk.usage is not None:
            if chunk.usage.is_readable:
                self.usage = chunk.usage
            else:
                self.fail(failures.GARBLED, "usage has a number beyond all bounds, or what is no JSON")
        if chunk.penstock is not None:
            self.said(chunk.penstock)
        if chunk.timings:
            self._timed(chunk.timings)
        if len(choices) == 1 and chunk.usage is None and chunk.penstock is None and not chunk.timings:
            (choice,) = choices
            said = choice.delta
            self.plain_index = choice.index
            if not choice.finish_reason:
                plain = choice.text or (said.content if said is not None else "")
                self.plain_text = plain if isinstance(plain, str) else ""

    def content(self, text: str, at: float) -> None:
        """New text by itself, of the choice of the last chunk. It may be left out unless `keep_text`."""
        if self.done:
            self.fail(failures.EARLY_DONE, "an event came after [DONE]")
        self.events += 1
        self.last_event_s = at
        self._content(text, at, self.plain_index)

    def _content(self, text: str, at: float, index: int) -> None:
        if index in self.finished:
            self.fail(failures.EARLY_DONE, "content came after the finish reason")
        times = self.times
        if not times:
            self.first_s = at
        elif len(times) >= _MOST_EVENTS:
            self.fail(failures.GARBLED, f"more than {_MOST_EVENTS} events")
            return
        self.begun.add(index)
        times.append(at)
        if self.keep_text and self.text_size < _MOST_TEXT:
            self.text_size += len(text)
            self.text.append(text)

    def said(self, served: ServerSaid) -> None:
        """Penstock's own words on who answered."""
        self.rung = served.rung or self.rung
        self.escalated = any(attempt.outcome == "escalated" for attempt in served.attempts)
        self.degraded = self.degraded or bool(served.degraded)
        if served.timings:
            self._timed(served.timings)

    def error(self, raw: bytes, status: int = 0) -> None:
        """An error's object, in a stream or as a whole body. `status`: of a message that has its own."""
        message, code, said = error_words(raw)
        self.code = code
        status = status or said or self.status
        if status in failures.SHED_STATUS:
            self.status = status
            self.fail(failures.SHED, message)
        else:
            self.fail(failures.ERROR_EVENT if self.status < 400 else failures.REFUSED, message)

    def ended(self, at: float, *, in_order: bool, why: str = "") -> None:
        """The connection or the body has ended. `in_order`: as its framing says."""
        if self.closed:
            return
        self.closed = True
        self.end_s = at
        if self.failure:
            return
        if not in_order:
            self.fail(failures.TRUNCATED if self.status else failures.CONNECTION_LOST, why)
        elif not self.finished or self.begun - self.finished:
            self.fail(failures.NO_FINISH_REASON, f"after {self.events} events")
        elif not self.done:
            self.fail(failures.NO_DONE, f"after {self.events} events")
        else:
            self._check_usage()

    def _check_usage(self) -> None:
        usage, received = self.usage, len(self.times)
        if usage is None:
            return
        tokens, prompt, total = usage.completion_tokens, usage.prompt_tokens, usage.total_tokens
        if tokens is not None:
            if self.one_token_events and tokens != received:
                self._miscounted(f"{tokens} tokens, and {received} events of one token each came")
            elif tokens < received:
                self._miscounted(f"{tokens} tokens, and {received} events with content came")
            elif self.max_tokens and tokens > self.max_tokens * len(self.finished):
                most = self.max_tokens * len(self.finished)
                self._miscounted(f"{tokens} tokens, and {most} were asked for at most")
        if tokens is not None and prompt is not None and total is not None and total != tokens + prompt:
            self._miscounted(f"a total of {total}, which is not {prompt} + {tokens}")

    def _miscounted(self, what: str) -> None:
        self.fail(failures.USAGE_MISMATCH, f"usage says {what}")

    def _timed(self, timings: dict[str, Any]) -> None:
        """The server's own times: Penstock's, or llama.cpp's."""
        for name, value in list(timings.items())[:32]:
            if name.endswith("_ms") and isinstance(value, int | float):
                time_ms = bounded(value)
                if time_ms is None:
                    self.fail(failures.GARBLED, f"timings.{name} is beyond all bounds")
                else:
                    self.timings[name.removesuffix("_ms")] = time_ms / 1000


def error_words(raw: bytes) -> tuple[str, str, int]:
    """The message, code and status in an error's object; what is no such object is its own message."""
    try:
        value = msgspec.json.decode(raw)
    except UNREADABLE:
        return raw[:_SHOWN].decode(errors="replace"), "", 0
    if isinstance(value, dict) and isinstance(value.get("error"), dict):
        value = value["error"]
    if not isinstance(value, dict):
        return str(value)[:_SHOWN], "", 0
    code, status = value.get("code"), value.get("status")
    if isinstance(code, int):
        code, status = "", code
    words = [code, value.get("type")]
    return (
        str(value.get("message", ""))[:_SHOWN],
        next((str(word)[:80] for word in words if isinstance(word, str) and word), ""),
        status if isinstance(status, int) else 0,
    )


def _or_none(raw: msgspec.Raw) -> Any:
    """The value, which is of any form; None: there is none."""
    return msgspec.json.decode(raw) if bytes(raw) else None


def _text(choice: AnswerChoice) -> str:
    """What a reader sees; nothing is an empty string, and "+" stands for tool calls."""
    if choice.text is not None:
        return choice.text
    said = choice.delta or choice.message
    if said is None:
        return ""
    text = said.content or said.reasoning_content or said.reasoning or ""
    if isinstance(text, list):
        text = "".join([str(part.get("text", "")) for part in text if isinstance(part, dict)])
    if not text and bytes(said.tool_calls) not in _EMPTY:
        return "+"
    return text
