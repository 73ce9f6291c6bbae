"""The messages of the WebSocket `/v1/stream`, documented in docs/websocket.md."""

from collections.abc import Callable

import msgspec

from actors.api.errors import ErrorBody
from actors.api.extra_fields import ExtraFields
from actors.api.request import View
from actors.api.response import DecisionInfo, Delta, Done, Start, Usage
from gateway.openai.json_text import encode, usage_fields
from gateway.openai.logprobs import chat_logprobs, prompt_logprobs_field
from gateway.openai.requests.chat_request import ChatBody
from gateway.openai.requests.completion_request import CompletionBody
from gateway.openai.responses.completion import call_list, finish_word, shown_fields
from gateway.openai.responses.headers import limit_fields
from policies.admission.quota import RateLimits

MAX_ID_CHARACTERS = 128


class Peek(msgspec.Struct):
    """The fields by which a client's message is dispatched; all others are ignored at first."""

    type: str
    id: str | None = None
    endpoint: str = "chat.completions"


class StartChat(ChatBody, kw_only=True):
    """A chat request on the WebSocket."""

    type: str
    id: str
    endpoint: str = "chat.completions"
    resumable: bool = False
    """The answer is kept, so that another connection can continue it."""


class StartCompletion(CompletionBody, kw_only=True):
    """A text completion on the WebSocket."""

    type: str
    id: str
    endpoint: str
    resumable: bool = False


class Resume(msgspec.Struct, forbid_unknown_fields=True):
    """Continues a kept answer on this connection."""

    type: str
    id: str
    stream: str
    after: int = 0
    """The number of the last message that the client has."""


class Cancel(msgspec.Struct, forbid_unknown_fields=True):
    """Ends a request."""

    type: str
    id: str


class Renderer:
    """Makes the server's messages about one request."""

    def __init__(
        self, message_id: str, view: View, limits: Callable[[], RateLimits | None], after: int | None = None
    ) -> None:
        """`after`: number the answer's messages, from 1 on, and omit those up to this one; None: without numbers."""
        self._after = after
        self.number = 0
        """Of the last message, if they are numbered."""
        self._view = view
        self._limits = limits
        self._name = message_id
        self._id = encode(message_id)
        self._tokens = b'{"type":"token","id":%b,"index":' % self._id

    def numbered(self, messages: list[bytes], *, ends: bool) -> list[bytes]:
        """What is sent of the answer's next messages. `ends`: the last of them ends it, and so comes in any case."""
        if self._after is None:
            return messages
        first = self.number + 1
        self.number += len(messages)
        had = max(self._after + 1 - first, 0)
        if ends:
            had = min(had, len(messages) - 1)
        return [b'%b,"number":%d}' % (each[:-1], number) for number, each in enumerate(messages[had:], first + had)]

    def started(self, request_id: str, start: Start, decided: DecisionInfo) -> bytes:
        """`started`: a rung works on the request."""
        more = b',"experiment":%b,"arm":%b' % (encode(decided.experiment), encode(decided.arm)) if decided.arm else b""
        if self._after is not None:
            more += b',"stream":%b' % encode(request_id)
        for name, value in (
            ("degraded", start.degraded),
            ("tier", start.tier),
            ("mark", start.mark),
            ("schema_passed_over", decided.passed_over),
        ):
            if value:
                more += b",%b:%b" % (encode(name), encode(value))
        return (
            b'{"type":"started","id":%b,"request_id":%b,"route":%b,"rung":%b,"prompt_tokens":%d,"policy":%b,"model_asked":%b,"model_served":%b%b%b}'
            % (
                self._id,
                encode(request_id),
                encode(start.route),
                encode(start.rung),
                start.prompt_tokens,
                encode(decided.policy),
                encode(start.model_asked),
                encode(start.model_served),
                more,
                _limits(self._limits()),
            )
        )

    def token(self, delta: Delta) -> bytes:
        """`token`: new text of one choice, or its end."""
        reason = None if delta.finish_reason is None else finish_word(delta.finish_reason)
        return b'%b%d,"text":%b,%b%b%b%b"logprobs":%b,"finish_reason":%b%b}' % (
            self._tokens,
            delta.index,
            encode(delta.text),
            b'"refuses":true,' if delta.refuses else b"",
            b'"reasoning_content":%b,' % encode(delta.reasoning) if delta.reasoning and self._view.reasoning else b"",
            b'"tool_calls":%b,' % encode(call_list(delta.calls)) if delta.calls else b"",
            b"" if delta.extras is None else self._extra_fields(delta.extras),
            encode(chat_logprobs(delta.logprobs)) if delta.logprobs else b"null",
            b"null" if reason is None else encode(reason),
            prompt_logprobs_field(self._view, delta.prompt_logprobs),
        )

    def _extra_fields(self, extras: ExtraFields) -> bytes:
        fields = {"message": shown_fields(extras, self._view), "choice": extras.choice, "body": extras.body}
        fields = {name: value for name, value in fields.items() if value}
        return b'"extra":%b,' % encode(fields) if fields else b""

    def usage(self, usage: Usage) -> bytes:
        return b'{"type":"usage","id":%b,%b' % (self._id, encode(usage_fields(usage))[1:])

    def done(self, done: Done) -> bytes:
        return b'{"type":"done","id":%b,"penstock":%b}' % (self._id, encode(done.served))

    def error(self, error: ErrorBody) -> bytes:
        return error_message(self._name, error, self._limits())


def error_message(
    message_id: str | None, error: ErrorBody, limits: RateLimits | None, *, rejected: Peek | None = None
) -> bytes:
    """`message_id`: the request that failed; None if none did, then `rejected` is the invalid message."""
    fields = {
        **error.fields(),
        "status": error.status,
        "should_retry": error.should_retry,
        "retry_after_s": error.retry_after_s,
    }
    about = b"" if rejected is None else b',"rejected":%b' % encode({"type": rejected.type[:64], "id": rejected.id})
    about += _limits(limits)
    return b'{"type":"error","id":%b,"error":%b%b}' % (encode(message_id), encode(fields), about)


def _limits(limits: RateLimits | None) -> bytes:
    return b"" if limits is None else b',"rate_limits":%b' % encode(limit_fields(limits))
