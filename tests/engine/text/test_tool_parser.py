"""Tool calls in text that arrives in arbitrary pieces."""

import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.text.tool_calls import ToolCall
from engine.text.tool_parser import ToolCallParser

NAMES = frozenset({"weather", "add"})


def call(name="weather", key="arguments", **arguments) -> str:
    return json.dumps({"name": name, key: arguments}, ensure_ascii=False)


def tagged(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


def read(style, pieces) -> tuple[str, list[ToolCall]]:
    parser = ToolCallParser(style, NAMES)
    spoken = [*(parser.push(piece) for piece in pieces), parser.end()]
    assert not parser.holding
    return "".join(each.text for each in spoken), [one for each in spoken for one in each.calls]


PARIS = ToolCall("weather", '{"city": "Paris"}')
ONE = call(city="Paris")
LLAMA = call(key="parameters", city="Paris")
TRICKY = call(city='</tool_call> {"}\\ <tool_call>')


@pytest.mark.parametrize(
    ("style", "text", "content", "calls"),
    [
        ("tags", "Just text, 2 < 3 <tool.", "Just text, 2 < 3 <tool.", []),
        ("tags", tagged(ONE), "", [PARIS]),
        ("tags", f"\n{tagged(ONE)}\n{tagged(ONE)}\n", "", [PARIS, PARIS]),
        ("tags", f"I look.\n\n{tagged(ONE)}", "I look.", [PARIS]),
        ("tags", f"{tagged(ONE)}\nDone. ", "\nDone.", [PARIS]),
        ("tags", f"<tool_call>{ONE}", "", [PARIS]),
        ("tags", tagged(TRICKY), "", [ToolCall("weather", '{"city": "</tool_call> {\\"}\\\\ <tool_call>"}')]),
        ("tags", tagged(call("unknown")), tagged(call("unknown")), []),
        ("tags", tagged("[1]"), tagged("[1]"), []),
        ("tags", f"<tool_call> no {tagged(ONE)}", "<tool_call> no", [PARIS]),
        ("tags", tagged('{"name": "weather", "arguments": NaN}'), tagged('{"name": "weather", "arguments": NaN}'), []),
        ("tags", tagged('{"name": "weather", "arguments": 3}'), tagged('{"name": "weather", "arguments": 3}'), []),
        ("tags", tagged('{"name": "add"}'), "", [ToolCall("add", "{}")]),
        ("tags", '<tool_call>\n{"name": "weather", "argu', '<tool_call>\n{"name": "weather", "argu', []),
        ("tags", LLAMA, LLAMA, []),
        ("bare", LLAMA, "", [PARIS]),
        ("bare", f" \n{LLAMA} ", "", [PARIS]),
        ("bare", f"{LLAMA}; {LLAMA}", "", [PARIS, PARIS]),
        ("bare", f"Look: {LLAMA}", f"Look: {LLAMA}", []),
        ("bare", '{"a": 1} and more', '{"a": 1} and more', []),
        ("bare", f"{LLAMA} so", " so", [PARIS]),
        ("bare", '{"name": "weather", "pa', '{"name": "weather", "pa', []),
        ("bare", "  ", "  ", []),
    ],
)
def test_what_is_a_call(style, text, content, calls):
    assert read(style, [text]) == (content, calls)
    assert read(style, list(text)) == (content, calls)


ENDINGS = ["C:\\", "a\\\\", '\\"', 'say "\\', "\\ ", "}\\", "\\u0022", '{"\\":\\', "\n\\", "\\\\\\", '"']


@pytest.mark.parametrize("value", ENDINGS)
@pytest.mark.parametrize("ensure_ascii", [False, True])
@pytest.mark.parametrize(("style", "key"), [("tags", "arguments"), ("bare", "parameters")])
def test_backslashes_and_quotes_at_a_strings_end(style, key, value, ensure_ascii):
    """As values, as keys and in lists, at the end of the object or not."""
    for arguments in ({"path": value}, {value: "x"}, {"all": [value, value]}, {"path": value, "then": value}):
        said = json.dumps({"name": "weather", key: arguments}, ensure_ascii=ensure_ascii)
        one = tagged(said) if style == "tags" else said
        between = "\n" if style == "tags" else "; "
        text, calls = read(style, list(one + between + one))
        assert text == ""
        assert [(each.name, json.loads(each.arguments)) for each in calls] == [("weather", arguments)] * 2


BITS = [
    "<tool_call>",
    "</tool_call>",
    "\n",
    " ",
    "<tool",
    ONE,
    LLAMA,
    TRICKY,
    call("nope"),
    "{",
    "}",
    '"',
    "\\",
    ";",
    "é",
]


@example(["<tool_call>", ONE, "</tool_call>"], [5, 11, 12])
@given(st.lists(st.sampled_from(BITS), max_size=10), st.lists(st.integers(0, 400), max_size=12))
@pytest.mark.parametrize("style", ["tags", "bare"])
def test_any_split_gives_the_same(style, bits, cuts):
    text = "".join(bits)
    places = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    pieces = [text[start:end] for start, end in pairwise(places)]
    whole = read(style, [text])
    assert read(style, pieces) == whole
    content, calls = whole
    if not calls:
        assert content == text
    else:
        assert len(content) < len(text)


def test_nothing_of_a_call_shows_before_it_is_whole():
    parser = ToolCallParser("tags", NAMES)
    assert parser.push("Well ").text == "Well"
    assert not parser.opened
    for character in f"<tool_call>{ONE}"[:-1]:
        spoken = parser.push(character)
        assert (spoken.text, spoken.calls) == ("", ())
        assert parser.holding
    assert parser.opened
    assert parser.push("}").calls == (PARIS,)
