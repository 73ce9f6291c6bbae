"""Fragments of fields that are not read add up to what a server would have sent whole."""

from typing import Any

import msgspec
import pytest

from actors.api.extra_fields import ExtraFields, added, is_answer, is_too_deep, joined, without_reasoning
from actors.api.response import Delta

CITED = {"type": "url_citation", "url_citation": {"url": "https://a.example"}}
OTHER = {"type": "x"}
PIECES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "texts are appended": ([{"audio": {"data": "QU"}}, {"audio": {"data": "JD"}}], {"audio": {"data": "QUJD"}}),
    "an id stays one": (
        [{"audio": {"id": "a1", "transcript": "Hel"}}, {"audio": {"id": "a1", "transcript": "lo"}}],
        {"audio": {"id": "a1", "transcript": "Hello"}},
    ),
    "a list of new entries": ([{"a": [CITED]}, {"a": [OTHER]}], {"a": [CITED, OTHER]}),
    "a list that is sent whole each time": ([{"a": [CITED]}, {"a": [CITED, OTHER]}], {"a": [CITED, OTHER]}),
    "entries with an index": (
        [
            {"reasoning_details": [{"index": 0, "type": "reasoning.text", "text": "Hm"}]},
            {"reasoning_details": [{"index": 0, "type": "reasoning.text", "text": "m."}]},
            {"reasoning_details": [{"index": 0, "type": "reasoning.text", "signature": "s"}]},
            {"reasoning_details": [{"index": 0, "type": "reasoning.encrypted", "data": "e"}]},
        ],
        {
            "reasoning_details": [
                {"index": 0, "type": "reasoning.text", "text": "Hmm.", "signature": "s"},
                {"index": 0, "type": "reasoning.encrypted", "data": "e"},
            ]
        },
    ),
    "numbers: the last": ([{"audio": {"expires_at": 1}}, {"audio": {"expires_at": 2}}], {"audio": {"expires_at": 2}}),
    "another type: the last": ([{"x": "a"}, {"x": ["b"]}], {"x": ["b"]}),
    "a label stays one, and the last counts": (
        [{"channel": "analysis", "status": "a"}, {"channel": "analysis"}, {"channel": "final", "status": ""}],
        {"channel": "final", "status": "a"},
    ),
    "ids at one index": (
        [{"a": [{"index": 0, "id": "x", "data": "A"}]}, {"a": [{"index": 0, "id": "y", "data": "B"}]}],
        {"a": [{"index": 0, "id": "x", "data": "A"}, {"index": 0, "id": "y", "data": "B"}]},
    ),
    "an id of any type": (
        [{"a": [{"index": 0, "type": [], "id": {"a": 1}}]}, {"a": [{"index": 0, "type": [], "id": [1]}]}],
        {"a": [{"index": 0, "type": [], "id": {"a": 1}}, {"index": 0, "type": [], "id": [1]}]},
    ),
    "blocks of thinking without an index": (
        [
            {"thinking_blocks": [thinking]}
            for thinking in (
                {"type": "thinking", "thinking": "ha", "signature": None},
                {"type": "thinking", "thinking": "ha", "signature": None},
                {"type": "thinking", "thinking": "", "signature": "s"},
                {"type": "redacted_thinking", "data": "e"},
                {"type": "thinking", "thinking": "ha", "signature": "t"},
                {"type": "thinking", "thinking": "ha", "signature": "t"},
            )
        ],
        {
            "thinking_blocks": [
                {"type": "thinking", "thinking": "haha", "signature": "s"},
                {"type": "redacted_thinking", "data": "e"},
                {"type": "thinking", "thinking": "ha", "signature": "t"},
            ]
        },
    ),
    "arguments, again with what the tool said": (
        [{"a": [{"index": 0, "arguments": "{}"}]}, {"a": [{"index": 0, "arguments": "{}", "output": "1"}]}],
        {"a": [{"index": 0, "arguments": "{}", "output": "1"}]},
    ),
    "base64, each fragment of its own": (
        [{"audio": {"data": "QQ=="}}, {"audio": {"data": "Qg=="}}, {"audio": {"data": "QUJD"}}],
        {"audio": {"data": "QUJBQkM="}},
    ),
    "no base64": ([{"audio": {"data": "a="}}, {"audio": {"data": "b"}}], {"audio": {"data": "a=b"}}),
    "null replaces nothing": ([{"audio": {"id": "a"}}, {"audio": {"id": None}}], {"audio": {"id": "a"}}),
}


@pytest.mark.parametrize(("pieces", "whole"), PIECES.values(), ids=PIECES)
def test_fragments_of_a_message(pieces: list[dict[str, Any]], whole: dict[str, Any]) -> None:
    found = joined([ExtraFields(message=piece) for piece in pieces])
    assert found is not None
    assert found.message == whole
    # In any grouping.
    first = joined([ExtraFields(message=piece) for piece in pieces[:2]])
    assert first is not None
    again = joined([first, *[ExtraFields(message=piece) for piece in pieces[2:]]])
    assert again == found


def test_what_is_said_about_an_answer_is_replaced() -> None:
    found = joined(
        [
            ExtraFields({"citations": ["a"], "tier": "x"}, {"f": 1}, size=3),
            ExtraFields({"citations": ["a", "b"]}, usage={"cost": 1}, size=4),
        ]
    )
    assert found == ExtraFields({"citations": ["a", "b"], "tier": "x"}, {"f": 1}, usage={"cost": 1}, size=7)
    assert joined([]) is None


def test_many_fragments_take_no_square_of_time() -> None:
    """A hundred thousand: a join of each with all before it would take minutes."""
    detail = {"index": 0, "id": "r", "text": "x"}
    pieces = [
        ExtraFields(message={"audio": {"data": "x" * 100}, "annotations": [{"n": n}], "reasoning_details": [detail]})
        for n in range(100_000)
    ]
    found = joined(pieces)
    assert found is not None
    assert (len(found.message["audio"]["data"]), len(found.message["annotations"])) == (10_000_000, 100_000)
    assert len(found.message["reasoning_details"][0]["text"]) == 100_000


def test_usage_of_several_choices() -> None:
    one = {"cost": 0.25, "details": {"audio_tokens": 3}, "is_byok": False, "tier": "a"}
    other = {"cost": 0.5, "details": {"audio_tokens": 4, "new": 1}, "is_byok": True, "tier": "b"}
    assert added([one, other]) == {
        "cost": 0.75,
        "details": {"audio_tokens": 7, "new": 1},
        "is_byok": True,
        "tier": "b",
    }
    assert added([one]) == one
    details = {"prompt_tokens_details": {"audio_tokens": 3}, "prompt_cache_miss_tokens": 2, "cost": 1}
    assert added([details] * 4, 2) == {
        "prompt_tokens_details": {"audio_tokens": 6},
        "prompt_cache_miss_tokens": 4,
        "cost": 4,
    }
    assert added([]) == {}


def test_what_hides_reasoning() -> None:
    shown = {"annotations": [CITED], "provider_specific_fields": {"citations": ["a"]}}
    hidden = {"thinking_blocks": [1], "provider_specific_fields": {"citations": ["a"], "thinking_blocks": [1]}}
    assert without_reasoning({**shown, **hidden, "reasoning_details": [1]}) == shown
    assert without_reasoning(shown) == shown


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"audio": {"data": "A"}}, True),
        ({"reasoning_details": [1]}, False),
        ({"reasoning_details": [1], "images": [1]}, True),
        ({"channel": "analysis", "n": 1, "final": False, "thinking_blocks": [1]}, False),
        ({}, False),
    ],
)
def test_what_is_part_of_the_answer(message: dict[str, Any], expected: bool) -> None:
    assert is_answer(message) is expected


def test_what_is_nested_too_deeply() -> None:
    deep: Any = {}
    for _ in range(63):
        deep = [deep, {"a": 1}]
    assert not is_too_deep(deep)
    assert is_too_deep({"a": deep})
    assert not is_too_deep({})


def test_they_are_kept_in_a_file() -> None:
    delta = Delta(0, "Hi", (), extras=ExtraFields({"a": [1]}, message={"audio": {"data": "x"}}, size=9))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(delta), type=Delta) == delta
