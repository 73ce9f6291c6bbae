"""Which requests continue which: what is part of a mark, and what is not."""

from collections.abc import Sequence
from typing import Any

import pytest

from actors.api.content import MediaPart, TextPart, media_digest
from actors.api.request import CallTurn, ChatMessage, ChatPrompt, TextPrompt
from actors.upstream.conversation_marks import conversation_marks
from engine.text.tool_calls import Tool, ToolSet

LONG = "Once upon a time. " * 80
SYSTEM, FIRST = ChatMessage("system", LONG), ChatMessage("user", "Hi")
ANSWER, SECOND = ChatMessage("assistant", "Hello"), ChatMessage("user", "And?")
TOOL = Tool("clock", {"type": "function", "function": {"name": "clock"}}, {})


def marks(*messages: ChatMessage, **more: Any) -> Sequence[bytes]:
    given = {"model": "m", "salt": b"tenant", "cache_key": "", **more}
    return conversation_marks(ChatPrompt(messages, given.pop("tools", None)), **given)


def test_the_next_turn_begins_with_the_marks_of_this_one() -> None:
    first = marks(SYSTEM, FIRST)
    assert len(set(first)) == 2
    assert marks(SYSTEM, FIRST, ANSWER, SECOND)[:2] == first
    assert marks(SYSTEM, SECOND)[0] == first[0]
    assert marks(SYSTEM, SECOND)[1] != first[1]


def test_short_beginnings_have_none() -> None:
    assert marks(FIRST, ANSWER, SECOND) == ()
    assert len(marks(FIRST, ANSWER, ChatMessage("user", LONG))) == 1
    assert conversation_marks(TextPrompt(LONG), "m", b"", "") == ()


def image(content: str) -> MediaPart:
    return MediaPart(medium="image", where="w", url=content, digest=media_digest(content))


@pytest.mark.parametrize(
    "changed",
    [
        marks(SYSTEM, FIRST, model="n"),
        marks(SYSTEM, FIRST, salt=b"another"),
        marks(SYSTEM, FIRST, tools=ToolSet((TOOL,))),
        marks(ChatMessage("system", LONG + "!"), FIRST),
        marks(ChatMessage("user", LONG), FIRST),
        marks(ChatMessage("system", LONG, parts=(TextPart(LONG), image("a"))), FIRST),
        marks(ChatMessage("system", LONG, tool_calls=(CallTurn("c", "clock", {}),)), FIRST),
    ],
)
def test_what_the_model_reads_is_part_of_it(changed: Sequence[bytes]) -> None:
    assert set(changed).isdisjoint(marks(SYSTEM, FIRST))


def test_marks_of_the_cache_and_reasoning_are_not() -> None:
    moved = ChatMessage("system", LONG, parts=(TextPart(LONG, {"type": "ephemeral"}),), reasoning="hm")
    assert marks(moved, FIRST) == marks(SYSTEM, FIRST)


def test_the_clients_own_key_is_all_that_counts() -> None:
    mine = marks(FIRST, cache_key="chat-1")
    assert len(mine) == 1
    assert marks(SYSTEM, SECOND, cache_key="chat-1") == mine
    assert marks(FIRST, cache_key="chat-2") != mine
    assert marks(FIRST, cache_key="chat-1", salt=b"another") != mine
