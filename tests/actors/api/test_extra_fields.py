"""What an upstream says beside the fields that are read: which of it is an answer, and how it adds up."""

from typing import Any

import msgspec
import pytest

from actors.api.extra_fields import ExtraFields, added, is_answer, is_too_deep, joined, without_reasoning
from actors.api.response import Delta


def test_what_is_said_about_an_answer_is_replaced() -> None:
    found = joined(
        [
            ExtraFields({"citations": ["a"], "tier": "x"}, {"f": 1}, size=3),
            ExtraFields({"citations": ["a", "b"]}, usage={"cost": 1}, size=4),
        ]
    )
    assert found == ExtraFields({"citations": ["a", "b"], "tier": "x"}, {"f": 1}, usage={"cost": 1}, size=7)
    assert joined([]) is None


def test_what_is_in_a_message_is_joined() -> None:
    found = joined([ExtraFields(message={"audio": {"data": text}}, size=2) for text in ("QU", "JD")])
    assert found == ExtraFields(message={"audio": {"data": "QUJD"}}, size=4)


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
    shown = {"annotations": [{"type": "url_citation"}], "provider_specific_fields": {"citations": ["a"]}}
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
