"""`system` and `messages` as the turns of a chat: a table of what may be said, and one of what may not."""

from typing import Any

import msgspec
import pytest

from actors.api.request import CallTurn, ChatMessage
from gateway.anthropic.turns import MessageTurn, conversation
from gateway.errors import BadField

CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def text(said: str, **more: object) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def use(call: str = "c1", **more: object) -> dict[str, Any]:
    return {"type": "tool_use", "id": call, "name": "clock", "input": {"zone": "UTC"}, **more}


def result(content: object = "noon", call: str = "c1", **more: object) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call, "content": content, **more}


def read(*turns: tuple[str, object], system: object = None, last: object = None) -> tuple[ChatMessage, ...]:
    return conversation(system, msgspec.convert([{"role": a, "content": b} for a, b in turns], list[MessageTurn]), last)


USER = ChatMessage("user", "Hi")
CALL = ChatMessage("assistant", "", tool_calls=(CallTurn("c1", "clock", {"zone": "UTC"}),))
ROWS: dict[str, tuple[list[tuple[str, object]], object, list[ChatMessage]]] = {
    "text": ([("user", "Hi")], None, [USER]),
    "blocks": ([("user", [text("H", **CACHED), text("i", citations=None)])], None, [ChatMessage("user", "H\ni")]),
    "system": ([("user", "Hi")], "Be brief.", [ChatMessage("system", "Be brief."), USER]),
    "system in blocks": (
        [("user", "Hi")],
        [text("Be"), text("brief.", **CACHED)],
        [ChatMessage("system", "Be\nbrief."), USER],
    ),
    "empty system": ([("user", "Hi")], "", [USER]),
    "system in between": (
        [("user", "Hi"), ("system", [text("Now.")]), ("user", "Yes")],
        None,
        [USER, ChatMessage("system", "Now."), ChatMessage("user", "Yes")],
    ),
    "neighbours of one role": (
        [
            ("user", "Hi"),
            ("user", "there"),
            ("assistant", "A"),
            ("assistant", [text("B"), use()]),
            ("user", [result()]),
        ],
        None,
        [
            ChatMessage("user", "Hi\n\nthere"),
            ChatMessage("assistant", "A\n\nB", tool_calls=CALL.tool_calls),
            ChatMessage("tool", "noon", tool_call_id="c1"),
        ],
    ),
    "no content": (
        [("user", []), ("assistant", []), ("user", "")],
        None,
        [ChatMessage("user", ""), ChatMessage("assistant", ""), ChatMessage("user", "")],
    ),
    "a call and its result": (
        [
            ("user", "Hi"),
            ("assistant", [use(**CACHED, caller={"type": "direct"})]),
            ("user", [result([text("no"), text("on")])]),
        ],
        None,
        [USER, CALL, ChatMessage("tool", "no\non", tool_call_id="c1")],
    ),
    "a result, and more": (
        [
            ("user", "Hi"),
            ("assistant", [use(), use("c2")]),
            ("user", [result(), result(None, "c2", is_error=False), text("So?")]),
        ],
        None,
        [
            USER,
            ChatMessage("assistant", "", tool_calls=(*CALL.tool_calls, CallTurn("c2", "clock", {"zone": "UTC"}))),
            ChatMessage("tool", "noon", tool_call_id="c1"),
            ChatMessage("tool", "", tool_call_id="c2"),
            ChatMessage("user", "So?"),
        ],
    ),
    "a failed tool": (
        [("user", "Hi"), ("assistant", [use()]), ("user", [text("So:"), result("no clock", is_error=True)])],
        None,
        [USER, CALL, ChatMessage("user", "So:"), ChatMessage("tool", "Error: no clock", tool_call_id="c1")],
    ),
    "text after a call that has no result yet": (
        [("user", "Hi"), ("assistant", [use()]), ("assistant", "Wait."), ("user", [result()])],
        None,
        [USER, CALL, ChatMessage("assistant", "Wait."), ChatMessage("tool", "noon", tool_call_id="c1")],
    ),
    "thoughts": (
        [
            ("user", "Hi"),
            (
                "assistant",
                [
                    {"type": "thinking", "thinking": "Hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "x"},
                    text("Yes"),
                ],
            ),
            ("user", "Why?"),
        ],
        None,
        [
            USER,
            ChatMessage("assistant", "Yes", reasoning="Hm", written={"reasoning_content": "Hm"}),
            ChatMessage("user", "Why?"),
        ],
    ),
    "an upstream's own field": (
        [("user", "Hi"), ("assistant", [use(extra_content={"a": 1})]), ("user", [result()])],
        None,
        [
            USER,
            ChatMessage("assistant", "", tool_calls=(CallTurn("c1", "clock", {"zone": "UTC"}, {"a": 1}),)),
            ChatMessage("tool", "noon", tool_call_id="c1"),
        ],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_turns(name: str) -> None:
    turns, system, expected = ROWS[name]
    found = read(*turns, system=system)
    assert tuple([msgspec.structs.replace(each, parts=()) for each in found]) == tuple(expected)


EPHEMERAL = CACHED["cache_control"]


def shown(*turns: tuple[str, object], **more: object) -> list[object]:
    """The parts of each message: a text, or a text and its breakpoint."""
    return [
        [part.text if part.cache_control is None else (part.text, part.cache_control) for part in message.parts]
        for message in read(*turns, **more)
    ]


def test_cache_breakpoints_are_kept_beside_the_text() -> None:
    end = text("b", **CACHED)
    called, answered = ("assistant", [use(**CACHED)]), result([text("c")], is_error=True, **CACHED)
    assert shown(("user", [text("a"), text(""), end])) == [["a", ("b", EPHEMERAL)]]
    assert shown(("user", "a"), system=[text("s", **CACHED)]) == [[("s", EPHEMERAL)], []]
    assert shown(("user", "a"), ("user", [end])) == [["a", "\n\n", ("b", EPHEMERAL)]]
    assert shown(("user", [end]), ("user", "")) == [[("b", EPHEMERAL)]]
    assert shown(("user", "a"), called, ("user", [answered])) == [[], [], [("Error: c", EPHEMERAL)]]
    assert shown(("user", [text("a"), text("c")]), last=EPHEMERAL) == [[("a\nc", EPHEMERAL)]]
    assert shown(("user", [end, text("c")]), last=EPHEMERAL) == [[("b", EPHEMERAL), ("c", EPHEMERAL)]]
    assert shown(("user", ""), last=EPHEMERAL) == [[]]


REFUSED: dict[str, tuple[list[tuple[str, object]], str, str]] = {
    "none": ([], "messages", "missing"),
    "too many": ([("user", "Hi")] * 2049, "messages", "2048"),
    "prefill": ([("user", "Hi"), ("assistant", "The")], "messages", "prefill"),
    "role": ([("tool", "Hi")], "messages[0].role", "assistant"),
    "image": (
        [("user", [text("a"), {"type": "image", "source": {}}])],
        "messages[0].content[1].source.type",
        "missing",
    ),
    "document": ([("user", [{"type": "document"}])], "messages[0].content[0].source", "missing"),
    "image in a result": (
        [("user", "Hi"), ("assistant", [use()]), ("user", [result([{"type": "image"}])])],
        "messages[2].content[0].content[0].source",
        "missing",
    ),
    "image by the assistant": (
        [("user", "Hi"), ("assistant", [{"type": "image"}]), ("user", "")],
        "messages[1].content[0].type",
        "'image'",
    ),
    "a call by the user": ([("user", [use()])], "messages[0].content[0].type", "'tool_use'"),
    "a tool of the server": (
        [("user", "Hi"), ("assistant", [{"type": "server_tool_use"}]), ("user", "")],
        "messages[1].content[0].type",
        "server_tool_use",
    ),
    "a result by the assistant": (
        [("assistant", [result()]), ("user", "")],
        "messages[0].content[0].type",
        "'tool_result'",
    ),
    "a result without a call": ([("user", [result(call="c9")])], "messages[0].content[0].tool_use_id", "earlier"),
    "a block without a type": ([("user", [{"text": "a"}])], "messages[0].content[0].type", "string"),
    "a field": ([("user", [text("a", colour="red")])], "messages[0].content[0].colour", "colour"),
    "no text": ([("user", [{"type": "text"}])], "messages[0].content[0].text", "missing"),
    "no input": (
        [("assistant", [{"type": "tool_use", "id": "a", "name": "b"}]), ("user", "")],
        "messages[0].content[0].input",
        "missing",
    ),
    "a caller": (
        [("assistant", [use(caller={"type": "code"})]), ("user", "")],
        "messages[0].content[0].caller",
        "direct",
    ),
    "citations": ([("user", [text("a", citations=[{}])])], "messages[0].content[0].citations", "leave it out"),
    "the type of a field": ([("user", [text("a"), text(5)])], "messages[0].content[1].text", "string"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    turns, field, word = REFUSED[name]
    with pytest.raises(BadField) as refused:
        read(*turns)
    assert refused.value.body.param == field
    assert word in refused.value.body.message or name == "none"
