"""Fragments of fields that are not read add up to what a server would have sent whole."""

from typing import Any

import msgspec
import pytest

from actors.api.extra_fields import ExtraFields, added, joined
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
    pieces = [ExtraFields(message={"audio": {"data": "x" * 100}, "annotations": [{"n": n}]}) for n in range(100_000)]
    found = joined(pieces)
    assert found is not None
    assert (len(found.message["audio"]["data"]), len(found.message["annotations"])) == (10_000_000, 100_000)


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
    assert added([]) == {}


def test_they_are_kept_in_a_file() -> None:
    delta = Delta(0, "Hi", (), extras=ExtraFields({"a": [1]}, message={"audio": {"data": "x"}}, size=9))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(delta), type=Delta) == delta
