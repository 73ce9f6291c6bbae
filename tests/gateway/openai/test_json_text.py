"""The objects that several wire formats share."""

import msgspec

from actors.api.response import Usage
from gateway.openai.json_text import encode, usage_fields
from tests.gateway.fakes import SERVED


def test_the_total_is_the_sum() -> None:
    fields = usage_fields(Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=3, reasoning_tokens=2))
    assert fields == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


def test_who_served_is_an_object_with_route_rung_and_reason() -> None:
    found = msgspec.json.decode(encode(SERVED))
    assert (found["route"], found["rung"], found["why"]) == (SERVED.route, SERVED.rung, SERVED.why)


def test_text_is_escaped() -> None:
    assert encode('a "quoted"\nline') == b'"a \\"quoted\\"\\nline"'
