"""An upstream's stream as outputs, and whether the answer is whole. Sans-IO; one reader a call.

An answer is whole if it has a finish reason and then `[DONE]`; its finish is held back until both were seen, so that
nothing which broke off is ever told as an end. Its tokens have no ids. They are counted by what the upstream reports:
the usage at the end, the log-probabilities if it sends them, and until then one for each event, or one for every eight
bytes of an event that holds more. The last output sets an estimate right.
"""

from collections.abc import Sequence

import msgspec

from actors.upstream.chunk import CallPart, Choice, Function, Usage, positions_of, read_chunk
from actors.upstream.failure import Broken, error_in, garbled, of_event, truncated
from actors.upstream.sse import SseEvent, SseReader, TooLong
from engine.messages import Finish, FinishReason, TokenLogprobs, TokenOutput
from engine.text.tool_calls import ToolCall

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "tool_calls": "stop",
    "length": "length",
    "content_filter": "content_filter",
}
_BYTES_A_TOKEN = 8
_LONGEST_TOKEN = 256
"""Characters. An upstream that says more than so many for each token it may make has lost its way."""
_MOST_CHARACTERS = 4 << 20
_MOST_BYTES = 1 << 30
"""On the wire, whatever was asked for."""


class AnswerReader:
    """Feed it bytes until `done`; when the bytes end, ask `check_end`."""

    def __init__(self, request_id: int, max_tokens: int) -> None:
        self.done = False
        """The answer is whole and its finish was given out."""
        self._request_id = request_id
        self._sse = SseReader()
        self._most_characters = min(max_tokens * _LONGEST_TOKEN, _MOST_CHARACTERS)
        self._most_bytes = min((1 << 16) + max_tokens * (1 << 14), _MOST_BYTES)
        self._characters = 0
        self._bytes = 0
        self._counted = 0
        self._calls: dict[int, tuple[list[str], list[str]]] = {}
        """By number: the pieces of the name and of the arguments."""
        self._reason: FinishReason | None = None
        self._stop: str | int | None = None
        self._usage: Usage | None = None

    @property
    def tokens(self) -> int:
        """Of the answer so far; true when it is `done`."""
        return self._counted

    def feed(self, data: bytes) -> TokenOutput | None:
        """What these bytes bring. Raises Broken."""
        self._bytes += len(data)
        if self._bytes > self._most_bytes:
            raise garbled("it is far longer than was asked for")
        try:
            events = self._sse.feed(data)
        except TooLong:
            raise garbled("an event is too long") from None
        texts: list[str] = []
        logprobs: list[TokenLogprobs] = []
        counted = self._counted
        for event in events:
            if self.done:
                break
            self._take(event, texts, logprobs)
        text = "".join(texts)
        self._characters += len(text)
        if self._characters > self._most_characters:
            raise garbled("it says far more than was asked for")
        finish = self._finish() if self.done else None
        unnamed = self._counted - counted
        if not text and not logprobs and not unnamed and finish is None:
            return None
        calls = self._whole_calls() if finish is not None else ()
        return TokenOutput(self._request_id, (), text, (), tuple(logprobs), finish, calls, unnamed)

    def check_end(self) -> None:
        """The bytes have ended. Raises Broken unless the answer is whole."""
        if not self.done:
            raise truncated("it ended without [DONE]" if self._reason is not None else "it ended without an end")

    def _take(self, event: SseEvent, texts: list[str], logprobs: list[TokenLogprobs]) -> None:
        if event.data == b"[DONE]":
            if self._reason is None:
                raise truncated("[DONE] came without a finish reason")
            self.done = True
            return
        if event.name == b"error":
            raise Broken(of_event(event.data))
        chunk = read_chunk(event.data)
        if chunk.error or (chunk.choices is None and chunk.usage is None):
            # Also an error in one of the forms that hold no "error".
            failure = error_in(event.data)
            if failure is not None:
                raise Broken(failure)
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices or ():
            self._choice(choice, texts, logprobs)

    def _choice(self, choice: Choice, texts: list[str], logprobs: list[TokenLogprobs]) -> None:
        if choice.index != 0:
            raise garbled("it holds a choice that nobody asked for")
        text, unshown = choice.text or "", ""
        if choice.delta is not None:
            delta = choice.delta
            text += (delta.content or "") + (delta.refusal or "")
            unshown = (delta.reasoning_content or delta.reasoning or "") + self._call_parts(delta.tool_calls or ())
        positions = positions_of(choice.logprobs) if choice.logprobs is not None else []
        if text or unshown or positions:
            if self._reason is not None:
                raise garbled("it goes on after its end")
            texts.append(text)
            logprobs += positions
            self._characters += len(unshown)
            size = len(text.encode("utf-8", "replace")) + len(unshown.encode("utf-8", "replace"))
            self._counted += len(positions) or max(1, size // _BYTES_A_TOKEN)
        if choice.finish_reason:
            if choice.finish_reason == "tool_calls" and not self._calls:
                raise garbled("it ended with tool calls and made none")
            self._reason = _REASONS.get(choice.finish_reason)
            if self._reason is None:
                raise truncated(f"its finish reason is none of {', '.join(_REASONS)}")
            self._stop = choice.stop_reason if isinstance(choice.stop_reason, str | int) else None

    def _call_parts(self, parts: Sequence[CallPart]) -> str:
        """Keep them; what they say, to be counted."""
        said = ""
        for part in parts:
            names, arguments = self._calls.setdefault(part.index or 0, ([], []))
            function = part.function or Function()
            names.append(function.name or "")
            arguments.append(function.arguments or "")
            said += (function.name or "") + (function.arguments or "")
        return said

    def _whole_calls(self) -> tuple[ToolCall, ...]:
        """Calls are told whole, at the end. Raises Broken for half a one, unless the answer was cut for its length."""
        calls: list[ToolCall] = []
        for _, (names, pieces) in sorted(self._calls.items()):
            call = ToolCall("".join(names), "".join(pieces) or "{}")
            try:
                msgspec.json.decode(call.arguments, type=dict[str, msgspec.Raw])
            except (msgspec.MsgspecError, RecursionError):
                if self._reason == "length":
                    break
                raise garbled("the arguments of a tool call are no JSON object") from None
            if not call.name:
                raise garbled("a tool call has no name")
            calls.append(call)
        return tuple(calls)

    def _finish(self) -> Finish:
        assert self._reason is not None
        usage = self._usage
        cached = 0
        if usage is not None:
            self._counted = usage.completion_tokens
            if usage.prompt_tokens_details is not None:
                cached = usage.prompt_tokens_details.cached_tokens or 0
        return Finish(
            reason=self._reason,
            prompt_tokens=usage.prompt_tokens if usage is not None else 0,
            completion_tokens=self._counted,
            cached_tokens=cached,
            stop=self._stop,
        )
