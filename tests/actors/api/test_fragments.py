"""Fragments of fields that are not read add up to what a server would have sent whole."""

from typing import Any

import pytest

from actors.api.fragments import joined_objects

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
def test_they_add_up_in_any_grouping(pieces: list[dict[str, Any]], whole: dict[str, Any]) -> None:
    assert joined_objects(pieces) == whole
    assert joined_objects([joined_objects(pieces[:2]), *pieces[2:]]) == whole


def test_many_take_no_square_of_time() -> None:
    """A hundred thousand: a join of each with all before it would take minutes."""
    detail = {"index": 0, "id": "r", "text": "x"}
    found = joined_objects(
        [
            {"audio": {"data": "x" * 100}, "annotations": [{"n": n}], "reasoning_details": [detail]}
            for n in range(100_000)
        ]
    )
    assert (len(found["audio"]["data"]), len(found["annotations"])) == (10_000_000, 100_000)
    assert len(found["reasoning_details"][0]["text"]) == 100_000
