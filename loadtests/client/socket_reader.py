"""Reads the messages of Penstock's WebSocket (docs/websocket.md) into an `Answer`. Sans-IO."""

import msgspec

from loadtests.client import failures
from loadtests.client.answer import Answer, AnswerUsage, ServerSaid, Tokens
from loadtests.client.answer_json import UNREADABLE


class SocketMessage(msgspec.Struct, frozen=True):
    """What is looked at in a message."""

    type: str = ""
    text: str = ""
    reasoning_content: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw(b"")
    finish_reason: str | None = None
    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")
    penstock: ServerSaid | None = None
    rung: str = ""


_decode = msgspec.json.Decoder(SocketMessage).decode


class SocketReader:
    """`message` takes the messages of one request; `answer` must have begun."""

    __slots__ = ("answer",)

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def message(self, data: bytes | str, at: float) -> bool:
        """Read a message that arrived at this time. Returns whether to read on."""
        answer = self.answer
        try:
            message = _decode(data)
        except UNREADABLE as error:
            answer.fail(failures.GARBLED, f"a message is not of the protocol: {error}")
            answer.ended(at, in_order=False)
            return False
        match message.type:
            case "token":
                text = (
                    message.text
                    or message.reasoning_content
                    or ("+" if bytes(message.tool_calls) not in {b"", b"null", b"[]"} else "")
                )
                if text:
                    answer.content(text, at)
                else:
                    answer.last_event_s = at
                if message.finish_reason:
                    answer.finished.add(0)
            case "started":
                answer.rung = message.rung
                answer.last_event_s = at
            case "usage":
                answer.usage = AnswerUsage(message.prompt_tokens, message.completion_tokens)
            case "done":
                if message.penstock is not None:
                    answer.said(message.penstock)
                answer.done = True
                answer.ended(at, in_order=True)
            case "error":
                answer.error(bytes(message.error))
                answer.ended(at, in_order=True)
        return not answer.closed
