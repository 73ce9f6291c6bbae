"""Response bodies and stream chunks of chat and text completions."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec

from actors.api.extra_fields import ExtraFields, Fields, joined, without_reasoning
from actors.api.request import ParsedBody, View
from actors.api.response import Delta, EndReason, MadeCall, Served, Usage
from engine.messages import TokenLogprobs
from gateway.openai.json_text import encode, usage_fields
from gateway.openai.logprobs import CompletionLogprobs, chat_logprobs, prompt_logprobs, prompt_logprobs_field

_NO_EXTRAS = ExtraFields()
_FINISH = frozenset({"stop", "length", "content_filter", "tool_calls"})
"""Finish reasons of the API. All other ends are errors."""


class Identity(msgspec.Struct, frozen=True):
    """The fields that are the same in all parts of an answer."""

    request_id: str
    model: str
    created: int
    """Unix time."""
    fingerprint: str


class Choice(msgspec.Struct):
    """One choice of an answer that is not streamed."""

    texts: list[str] = msgspec.field(default_factory=list)
    reasoning: list[str] = msgspec.field(default_factory=list)
    refuses: bool = False
    """The text is a refusal."""
    calls: list[MadeCall] = msgspec.field(default_factory=list)
    logprobs: list[TokenLogprobs] = msgspec.field(default_factory=list)
    finish_reason: str | None = None
    stop: str | int | None = None
    """The stop string or token at which it ended, if it did and that is known."""
    echo: str = ""
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    extras: list[ExtraFields] = msgspec.field(default_factory=list)

    def take(self, delta: Delta) -> None:
        self.texts.append(delta.text)
        self.reasoning.append(delta.reasoning)
        self.refuses = self.refuses or delta.refuses
        self.calls.extend(delta.calls)
        self.logprobs.extend(delta.logprobs)
        self.prompt_logprobs += delta.prompt_logprobs
        if delta.extras is not None:
            self.extras.append(delta.extras)
        if delta.finish_reason is not None:
            self.finish_reason = finish_word(delta.finish_reason)
            self.stop = delta.stop


class Chunks(ABC):
    """Renders the server-sent events of one answer. A content event is the text in a prepared template."""

    id_prefix: ClassVar[str]
    kind: ClassVar[str]
    empty: ClassVar[bytes]
    """What a choice without content consists of, beside its index and finish reason."""
    content_end: ClassVar[bytes]
    """What follows the text in a chunk."""

    def __init__(self, identity: Identity, view: View, *, include_usage: bool) -> None:
        self._view = view
        self._head = b'data: {"id":%b,"object":%b,"created":%d,"model":%b,"system_fingerprint":%b,' % (
            encode(self.id_prefix + identity.request_id),
            encode(self.kind),
            identity.created,
            encode(identity.model),
            encode(identity.fingerprint),
        )
        self._set_tail(b',"usage":null}\n\n' if include_usage else b"}\n\n")
        self._starts: dict[int, bytes] = {}

    @abstractmethod
    def opening(self, delta: Delta, echo: str) -> bytes:
        """What precedes a choice's first content `delta`; `echo` is the text of its prompt, if requested."""

    @abstractmethod
    def content(self, delta: Delta) -> bytes:
        """New text of a choice; b"" if there is nothing to show."""

    def extra_fields(self, index: int, extras: ExtraFields) -> bytes:
        """A chunk with what an upstream says beside the content; b"" if that is nothing."""
        empty, body = self._empty(extras), encode(extras.body)[1:-1]
        if not (empty != self.empty or extras.choice or body):
            return b""
        choice = encode(extras.choice)[1:-1]
        return b'%b"choices":[{"index":%d,%b,"logprobs":null,"finish_reason":null%b}]%b%b' % (
            self._head,
            index,
            empty,
            b"," + choice if choice else b"",
            b"," + body if body else b"",
            self._tail,
        )

    def _empty(self, extras: ExtraFields) -> bytes:
        """A choice without content, but with these parts of a message, if it is one."""
        return self.empty

    def finish(self, index: int, reason: str, served: Served | None) -> bytes:
        """A choice's end; with `served` it is the answer's last chunk."""
        return b'%b"choices":[{"index":%d,%b,"logprobs":null,"finish_reason":%b}]%b%b' % (
            self._head,
            index,
            self.empty,
            encode(reason),
            _extension(served),
            self._tail,
        )

    def count(self, usage: Usage) -> None:
        """Include this usage in the chunks from now on: no template is prepared then."""
        self._set_tail(b',"usage":%b}\n\n' % encode(usage_fields(usage)))

    def usage(self, usage: Usage, served: Served) -> bytes:
        """The usage chunk, for `include_usage`."""
        return b'%b"choices":[],"usage":%b%b}\n\n' % (self._head, encode(usage_fields(usage)), _extension(served))

    def _set_tail(self, tail: bytes) -> None:
        self._tail = tail
        self._content_end = self.content_end + tail


class ChatChunks(Chunks):
    """`chat.completion.chunk`."""

    id_prefix = "chatcmpl-"
    kind = "chat.completion.chunk"
    empty = b'"delta":{}'
    content_end = b'},"logprobs":null,"finish_reason":null}]'

    def opening(self, delta: Delta, echo: str) -> bytes:
        """The chunk with the role; prepares the choice's template."""
        start = self._head + b'"choices":[{"index":%d,"delta":{' % delta.index
        self._starts[delta.index] = start + b'"content":'
        field = prompt_logprobs_field(self._view, delta.prompt_logprobs) if delta.index == 0 else b""
        return b'%b"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]%b%b' % (
            start,
            field,
            self._tail,
        )

    def content(self, delta: Delta) -> bytes:
        if delta.reasoning:
            return self._with_reasoning(delta) if self._view.reasoning else self._without_reasoning(delta)
        if delta.calls:
            return self._with_calls(delta)
        if delta.refuses:
            return self._refusal(delta)
        if not delta.logprobs:
            return self._starts[delta.index] + encode(delta.text) + self._content_end
        logprobs = chat_logprobs(delta.logprobs)
        if not logprobs and not delta.text:
            return b""
        return b'%b%b},"logprobs":{"content":%b,"refusal":null},"finish_reason":null}]%b' % (
            self._starts[delta.index],
            encode(delta.text),
            encode(logprobs),
            self._tail,
        )

    def _empty(self, extras: ExtraFields) -> bytes:
        return b'"delta":%b' % encode(shown_fields(extras, self._view))

    def _refusal(self, delta: Delta) -> bytes:
        return b'%b"choices":[{"index":%d,"delta":{"refusal":%b},"logprobs":%b,"finish_reason":null}]%b' % (
            self._head,
            delta.index,
            encode(delta.text),
            encode(_logprobs(delta.logprobs, refuses=True)),
            self._tail,
        )

    def _with_reasoning(self, delta: Delta) -> bytes:
        """A chunk with the reasoning, under both names that clients read, then one with the rest."""
        reasoning = encode(delta.reasoning)
        chunk = (
            b'%b"choices":[{"index":%d,"delta":{"reasoning_content":%b,"reasoning":%b},'
            b'"logprobs":null,"finish_reason":null}]%b' % (self._head, delta.index, reasoning, reasoning, self._tail)
        )
        return chunk + self._without_reasoning(delta)

    def _without_reasoning(self, delta: Delta) -> bytes:
        """What else the delta has."""
        has_more = delta.text or delta.calls or delta.logprobs
        return self.content(msgspec.structs.replace(delta, reasoning="")) if has_more else b""

    def _with_calls(self, delta: Delta) -> bytes:
        """A chunk with the text, if there is any, then one with the calls."""
        before = self.content(msgspec.structs.replace(delta, calls=(), logprobs=())) if delta.text else b""
        logprobs = chat_logprobs(delta.logprobs)
        return b'%b%b"choices":[{"index":%d,"delta":{"tool_calls":%b},"logprobs":%b,"finish_reason":null}]%b' % (
            before,
            self._head,
            delta.index,
            encode(call_list(delta.calls)),
            encode({"content": logprobs, "refusal": None}) if logprobs else b"null",
            self._tail,
        )


class CompletionChunks(Chunks):
    """`text_completion`."""

    id_prefix = "cmpl-"
    kind = "text_completion"
    empty = b'"text":""'
    content_end = b',"logprobs":null,"finish_reason":null}]'

    def __init__(self, identity: Identity, view: View, *, include_usage: bool) -> None:
        super().__init__(identity, view, include_usage=include_usage)
        self._logprobs: dict[int, CompletionLogprobs] = {}

    def opening(self, delta: Delta, echo: str) -> bytes:
        """The echoed prompt, if requested: text completions have no role."""
        start = self._starts[delta.index] = self._head + b'"choices":[{"index":%d,"text":' % delta.index
        logprobs = self._logprobs[delta.index] = CompletionLogprobs(echo or delta.text)
        positions = delta.prompt_logprobs
        field = prompt_logprobs_field(self._view, positions)
        if not (self._view.echo or field):
            return b""
        shown = self._view.echo and self._view.logprobs is not None
        return b'%b%b,"logprobs":%b%b,"finish_reason":null}]%b' % (
            start,
            encode(echo),
            encode(logprobs.fields(positions, self._view.logprobs or 0) if shown else None),
            field,
            self._tail,
        )

    def content(self, delta: Delta) -> bytes:
        """Text and log-probabilities; text completions have no field for reasoning."""
        if not delta.logprobs:
            if not delta.text:
                return b""
            return self._starts[delta.index] + encode(delta.text) + self._content_end
        fields = self._logprobs[delta.index].fields(delta.logprobs, self._view.logprobs or 0)
        return b'%b%b,"logprobs":%b,"finish_reason":null}]%b' % (
            self._starts[delta.index],
            encode(delta.text),
            encode(fields),
            self._tail,
        )


def shown_fields(extras: ExtraFields, view: View) -> Fields:
    """Further fields of a message, without the reasoning if it is not to be shown."""
    return extras.message if view.reasoning else without_reasoning(extras.message)


def finish_word(reason: EndReason) -> str | None:
    """OpenAI's finish reason; None if the answer ended in an error."""
    return reason if reason in _FINISH else None


def chat_body(identity: Identity, choices: Sequence[Choice], usage: Usage, served: Served, body: ParsedBody) -> bytes:
    """The body of a chat completion."""
    view = body.view
    extras = [joined(choice.extras) or _NO_EXTRAS for choice in choices]
    rendered = [
        {
            **extra.choice,
            "index": index,
            "message": {**shown_fields(extra, view), **_message(choice, view)},
            "logprobs": _logprobs(choice.logprobs, refuses=choice.refuses),
            "finish_reason": choice.finish_reason,
        }
        for index, (choice, extra) in enumerate(zip(choices, extras, strict=True))
    ]
    more = {**_of_bodies(extras), **_prompt_field(choices[0], view)}
    return _body(ChatChunks.id_prefix, "chat.completion", identity, rendered, usage, served, more)


def _of_bodies(extras: Sequence[ExtraFields]) -> dict[str, Any]:
    """What was said beside the choices: each choice of an upstream is a call of its own."""
    return {name: value for extra in extras for name, value in extra.body.items()}


def _logprobs(positions: Sequence[TokenLogprobs], *, refuses: bool) -> dict[str, Any] | None:
    """Those of a chat choice."""
    if not positions:
        return None
    tokens = chat_logprobs(positions)
    return {"content": None, "refusal": tokens} if refuses else {"content": tokens, "refusal": None}


def _prompt_field(choice: Choice, view: View) -> dict[str, Any]:
    if view.prompt_logprobs is None or not choice.prompt_logprobs:
        return {}
    return {"prompt_logprobs": prompt_logprobs(choice.prompt_logprobs, view.prompt_logprobs)}


def _message(choice: Choice, view: View) -> dict[str, Any]:
    """The message; it has `tool_calls` only if there are some."""
    text = "".join(choice.texts)
    content = text or (None if choice.calls or view.may_call else "")
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if choice.refuses:
        message |= {"content": None, "refusal": text}
    if view.reasoning and (reasoning := "".join(choice.reasoning)):
        message["reasoning_content"] = message["reasoning"] = reasoning
    if choice.calls:
        message["tool_calls"] = [_call(call) for call in choice.calls]
    return message


def call_list(calls: Sequence[MadeCall]) -> list[dict[str, Any]]:
    """Tool calls in the API's format."""
    return [{"index": call.index, **_call(call)} for call in calls]


def _call(call: MadeCall) -> dict[str, Any]:
    fields = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    return fields if call.extra is None else {**fields, "extra_content": call.extra}


def completion_body(
    identity: Identity, choices: Sequence[Choice], usage: Usage, served: Served, body: ParsedBody
) -> bytes:
    """The body of a text completion."""
    view = body.view
    extras = [joined(choice.extras) or _NO_EXTRAS for choice in choices]
    rendered = [
        {
            **extra.choice,
            "index": index,
            "text": (text := choice.echo + "".join(choice.texts)),
            "logprobs": _completion_logprobs(choice, text, view),
            "finish_reason": choice.finish_reason,
            **_prompt_field(choice, view),
        }
        for index, (choice, extra) in enumerate(zip(choices, extras, strict=True))
    ]
    more = _of_bodies(extras)
    return _body(CompletionChunks.id_prefix, CompletionChunks.kind, identity, rendered, usage, served, more)


def _completion_logprobs(choice: Choice, text: str, view: View) -> dict[str, Any] | None:
    positions = [*(choice.prompt_logprobs if view.echo else ()), *choice.logprobs]
    if view.logprobs is None or not positions:
        return None
    return CompletionLogprobs(text).fields(positions, view.logprobs)


def _body(  # noqa: PLR0917
    prefix: str,
    kind: str,
    identity: Identity,
    choices: list[dict[str, Any]],
    usage: Usage,
    served: Served,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> bytes:
    return encode(
        {
            "id": prefix + identity.request_id,
            "object": kind,
            "created": identity.created,
            "model": identity.model,
            "system_fingerprint": identity.fingerprint,
            "choices": choices,
            "usage": usage_fields(usage),
            "penstock": served,
            **more,
        }
    )


def _extension(served: Served | None) -> bytes:
    return b"" if served is None else b',"penstock":%b' % encode(served)
