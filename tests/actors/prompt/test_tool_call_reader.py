"""Answers with tool calls that end before they are whole: nothing of a call that is not whole is shown as text."""

import json
import re
from typing import Any, NamedTuple

import pytest

from actors.api.response import Delta, EndReason
from actors.prompt.tool_call_reader import ToolCallReader
from engine.text.tool_calls import ToolStyle

NAMES = frozenset({"weather", "add"})


def tagged(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def bare(name: str, arguments: str, more: str = "") -> str:
    return f'{{{more}"name": "{name}", "parameters": {arguments}}}'


HELD_BACK = re.compile(r"\s*(<(t(o(o(l(_(c(a(ll?)?)?)?)?)?)?)?)?)?")
"""What may be the beginning of a tag, and the white space before it."""
PARIS, TRICKY = '{"city": "Paris"}', '{"city": "</tool_call> {\\"}\\\\"}'


class Answer(NamedTuple):
    style: ToolStyle
    said: str
    before: str
    """Genuine text before the first call."""
    calls: tuple[tuple[str, str], ...]


ANSWERS = [
    Answer("tags", tagged("weather", PARIS), "", (("weather", PARIS),)),
    Answer("tags", tagged("add", "{}") + "\n" + tagged("weather", PARIS), "", (("add", "{}"), ("weather", PARIS))),
    Answer("tags", tagged("add", "{}") + tagged("add", TRICKY), "", (("add", "{}"), ("add", TRICKY))),
    Answer("tags", "\n\n" + tagged("weather", TRICKY), "", (("weather", TRICKY),)),
    Answer("tags", "I look: 2 > 1.\n" + tagged("weather", PARIS), "I look: 2 > 1.", (("weather", PARIS),)),
    Answer("tags", "<tool>x</tool> <tool_calls " + tagged("add", "{}"), "<tool>x</tool> <tool_calls", (("add", "{}"),)),
    Answer("bare", bare("weather", PARIS), "", (("weather", PARIS),)),
    Answer("bare", bare("add", "{}") + "; " + bare("weather", TRICKY), "", (("add", "{}"), ("weather", TRICKY))),
    Answer("bare", " \n" + bare("weather", PARIS, '"type": "function", '), "", (("weather", PARIS),)),
]


def read(style: ToolStyle, pieces: list[str], reason: EndReason, stop: str | None = None) -> Any:
    """The text, the calls and the finish reason."""
    reader = ToolCallReader(style, NAMES, id_prefix="c")
    shown = []
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        delta = Delta(0, piece, (number,), (), reason if last else None, stop if last else None)
        ready = reader.gather(reader.read(delta))
        shown += [ready] if ready is not None else []
    return (
        "".join([each.text for each in shown]),
        tuple([(call.name, call.arguments) for each in shown for call in each.calls]),
        shown[-1].finish_reason,
    )


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("reason", "stop"), [("length", None), ("content_filter", None), ("stop", "")])
def test_cut_at_every_character(answer: Answer, whole: bool, reason: EndReason, stop: str | None) -> None:
    begins = answer.said.index(answer.before) + len(answer.before)
    for cut in range(1, len(answer.said)):
        said, rest = answer.said[:cut], answer.said[cut:]
        found = rest[:7] if stop is not None else None
        text, calls, finish = read(answer.style, [said] if whole else list(said), reason, found)
        if cut <= begins:
            assert said.startswith(text)
            assert HELD_BACK.fullmatch(said[len(text) :])
        else:
            assert text.strip() == answer.before.strip(), said
        assert calls == answer.calls[: len(calls)]
        for _, arguments in calls:
            json.loads(arguments)
        assert finish == ("tool_calls" if calls and reason == "stop" else reason)
    assert read(answer.style, list(answer.said), "length")[1] == answer.calls


@pytest.mark.parametrize(
    ("style", "said", "reason", "stop", "shown"),
    [
        # The model ended by itself: what it said is what it meant.
        ("tags", "a <tool", "stop", None, "a <tool"),
        ("tags", '<tool_call>\n{"name": "weather"', "stop", None, '<tool_call>\n{"name": "weather"'),
        ("bare", '{"name": "wea', "stop", None, '{"name": "wea'),
        # Cut, and it cannot have been a call.
        ("tags", "a < b <tool>", "length", None, "a < b <tool>"),
        ("tags", "2 <", "length", None, "2"),
        ("tags", "a \n", "length", None, "a \n"),
        ("bare", '{"answer": 4, "na', "length", None, '{"answer": 4, "na'),
        ("bare", '{"name": "Mia", "age": 3', "length", None, '{"name": "Mia", "age": 3'),
        ("bare", '{"name": 3', "length", None, '{"name": 3'),
        ("bare", '{"name": "weather", ', "length", None, ""),
        ("bare", '{"id": 3, "na', "length", None, '{"id": 3, "na'),
        ("bare", '{"type": "object", "na', "length", None, '{"type": "object", "na'),
        ("bare", '{"type": "function", "na', "length", None, ""),
        ("bare", "[{", "length", None, "[{"),
        ("bare", '{"ans', "length", None, '{"ans'),
        # A stop string tells what would have come.
        ("tags", "a <", "stop", "div>", "a <"),
        ("tags", "a <", "stop", "tool_call>", "a"),
        ("tags", "a <", "stop", "tool_call>\n{", "a"),
        ("tags", "a <div>", "stop", "div>", "a <div>"),
        ("tags", "a <too", "stop", "th", "a <too"),
    ],
)  # fmt: skip
def test_what_only_looks_like_a_call_is_text(
    style: ToolStyle, said: str, reason: EndReason, stop: str | None, shown: str
) -> None:
    assert read(style, list(said), reason, stop) == (shown, (), reason)
    assert read(style, [said], reason, stop) == (shown, (), reason)
