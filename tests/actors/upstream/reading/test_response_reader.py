"""A stream is an answer only if it is complete, and its tokens are counted correctly."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.protocol.delivery import TextDelta
from actors.upstream.failures.failure import UpstreamCallError
from actors.upstream.reading.response_reader import ResponseReader
from actors.upstream.reading.sse import MAX_EVENT_BYTES


def event(**fields) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def said(text: str, **more) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None, **more}])


def ended(reason: str = "stop", **more) -> bytes:
    return event(choices=[{"index": 0, "delta": {}, "finish_reason": reason, **more}])


def called(name: str, arguments: str, index: int = 0) -> bytes:
    part = {"index": index, "id": "call_x", "type": "function", "function": {"name": name, "arguments": arguments}}
    return event(choices=[{"index": 0, "delta": {"tool_calls": [part]}}])


ROLE = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}], usage=None)
USAGE = event(
    choices=[], usage={"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
)
DONE = b"data: [DONE]\n\n"


def outputs(*pieces: bytes, max_tokens: int = 100) -> list[TextDelta]:
    reader = ResponseReader(3, max_tokens, offered=("f", "g"), logprobs=True)
    found: list[TextDelta | None] = []
    for piece in pieces:
        found.append(reader.feed(piece))
        if reader.error is not None:
            raise reader.error
    found.append(reader.end())
    return [output for output in found if output is not None]


def kind(*pieces: bytes, max_tokens: int = 100) -> str:
    with pytest.raises(UpstreamCallError) as caught:
        outputs(*pieces, max_tokens=max_tokens)
    return caught.value.failure.kind


def test_a_whole_answer():
    first, second, last = outputs(ROLE, said("Hel"), b": ping\n\n", said("lo"), ended(), USAGE, DONE)
    assert (first.sequence_id, first.text, first.token_count) == (3, "Hel", 1)
    assert (second.text, second.finish) == ("lo", None)
    assert last.finish is not None
    assert (last.finish.reason, last.finish.prompt_tokens, last.finish.completion_tokens) == ("stop", 7, 5)
    assert (last.finish.cached_tokens, last.token_count) == (4, 3)


@given(st.lists(st.integers(0, 700)))
def test_any_cut_gives_the_same_answer(cuts):
    stream = b"".join([ROLE, said("naïve 東京"), said(" 👍🏽"), ended("length"), USAGE, DONE])
    places = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    found = outputs(*[stream[start:end] for start, end in pairwise(places)])
    assert "".join(each.text for each in found) == "naïve 東京 👍🏽"
    assert sum(each.token_count for each in found) == 5
    assert [each.finish.reason for each in found if each.finish is not None] == ["length"]


def test_the_reasonings_tokens_are_part_of_the_answers():
    details = {"completion_tokens_details": {"reasoning_tokens": 3}}
    usage = event(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 5, **details})
    *_, last = outputs(said("a"), said("b"), ended(), usage, DONE)
    assert last.finish is not None
    assert (last.finish.completion_tokens, last.finish.reasoning_tokens) == (5, 3)


def test_a_count_is_corrected_downwards_too():
    usage = event(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 1})
    assert [each.token_count for each in outputs(said("a"), said("b"), ended(), usage, DONE)] == [1, 1, -1]


def test_an_event_of_many_tokens_is_counted_by_its_bytes():
    assert sum(each.token_count for each in outputs(said("x" * 80), ended(), DONE)) == 10


def test_log_probabilities_of_chat():
    position = {
        "token": "é",
        "logprob": -0.5,
        "bytes": [195, 169],
        "top_logprobs": [{"token": "é", "logprob": -0.5, "bytes": [195, 169]}, {"token": "e", "logprob": -2.0}],
    }
    (first, _) = outputs(said("éé", logprobs={"content": [position, position]}), ended(), DONE)
    assert first.token_count == 2
    assert first.logprobs[0].token_bytes == "é".encode()
    assert first.logprobs[0].top == ((-1, -0.5, "é".encode()), (-1, -2.0, b"e"))


def test_log_probabilities_of_a_text_completion():
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [None, -1.0], "top_logprobs": [None, {"b": -1.0, "c": -3.0}]}
    chunk = event(choices=[{"index": 0, "text": "ab", "logprobs": logprobs}])
    (first, _) = outputs(chunk, event(choices=[{"text": "", "finish_reason": "stop"}]), DONE)
    assert (first.text, [each.logprob for each in first.logprobs]) == ("ab", [-9999.0, -1.0])
    assert first.logprobs[1].top == ((-1, -1.0, b"b"), (-1, -3.0, b"c"))


def test_tool_calls_come_whole_and_at_the_end():
    found = outputs(
        said("Let me see."), called("f", '{"a"'), called("", ": 1}"), called("g", "", 1), ended("tool_calls"), DONE
    )
    assert [each.text for each in found] == ["Let me see.", "", "", "", ""]
    assert [each.tool_calls for each in found[:-1]] == [()] * 4
    assert [(each.name, each.arguments) for each in found[-1].tool_calls] == [("f", '{"a": 1}'), ("g", "{}")]
    assert found[-1].finish.reason == "stop"
    assert [each.token_count for each in found] == [1, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("given", "kept"), [("call_1__thought__" + "S" * 4000, True), ("a b", False), ("S" * 16385, False)]
)
def test_the_id_of_a_call(given: str, kept: bool) -> None:
    """LiteLLM puts a signature into it, which must come back."""
    (call,) = outputs(called("f", "{}").replace(b"call_x", given.encode()), ended("tool_calls"), DONE)[-1].tool_calls
    assert call.id == (given if kept else "")


def test_a_signature_of_its_own_belongs_to_its_call():
    late = {"index": 0, "function": {"arguments": ""}, "extra_content": {"google": {"thought_signature": "S"}}}
    signed = event(choices=[{"index": 0, "delta": {"tool_calls": [late]}}])
    found = outputs(
        signed, called("f", "{}"), called("g", "{}", 1).replace(b"call_x", b"y"), signed, ended("stop"), DONE
    )
    assert [(call.name, call.extra) for call in found[-1].tool_calls] == [("f", late["extra_content"]), ("g", None)]


def test_half_a_call_at_the_length_is_left_out():
    found = outputs(called("f", "{}"), called("g", '{"a', 1), ended("length"), DONE)
    assert [each.name for each in found[-1].tool_calls] == ["f"]
    assert found[-1].finish.reason == "length"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_counted_and_reported_beside_the_text(field):
    thought = event(choices=[{"index": 0, "delta": {field: "hm"}}])
    found = outputs(thought, said("a"), ended(), DONE)
    assert [(each.reasoning, each.text, each.token_count) for each in found] == [
        ("hm", "", 1),
        ("", "a", 1),
        ("", "", 0),
    ]


def test_what_came_before_a_failure_is_given_out():
    reader = ResponseReader(3, 100)
    output = reader.feed(said("Hello") + event(error="boom"))
    assert output is not None
    assert (output.text, output.finish) == ("Hello", None)
    assert reader.error is not None
    assert reader.error.failure.kind == "upstream_failed"


def test_a_stop_string_and_a_filter_are_reported():
    assert outputs(said("a"), ended("stop", stop_reason="END"), DONE)[-1].finish.stop == "END"
    assert outputs(said("a"), ended("content_filter"), DONE)[-1].finish.reason == "content_filter"


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((), "upstream_truncated"),
        ((ROLE,), "upstream_truncated"),
        ((said("a"),), "upstream_truncated"),
        ((ROLE, DONE), "upstream_truncated"),
        ((said("a"), ended(), said("b")), "upstream_truncated"),
        ((said("a"), ended("abort"), DONE), "upstream_truncated"),
        ((ended("tool_calls"), DONE), "upstream_garbled"),
        ((called("f", '{"a":'), ended("tool_calls"), DONE), "upstream_garbled"),
        ((called("f", "[1]"), ended("stop"), DONE), "upstream_garbled"),
        ((called("", "{}"), ended("tool_calls"), DONE), "upstream_garbled"),
        ((*[called("f", "{}", index=number) for number in range(129)], ended("tool_calls"), DONE), "upstream_garbled"),
        ((called("h", "{}"), ended("tool_calls"), DONE), "upstream_garbled"),
        ((*[called("f", "x" * 300_000)] * 4,), "upstream_garbled"),
        ((called("f", "{}"),), "upstream_truncated"),
        ((said("a"), event(error={"message": "out of memory", "type": "server_error"}), DONE), "upstream_failed"),
        ((said("a"), event(error="boom")), "upstream_failed"),
        ((event(object="error", message="no", code=400), DONE), "upstream_rejected"),
        ((b"data: " + b"[" * 100_000 + b"\n\n",), "upstream_garbled"),
        ((b"event: error\ndata: anything\n\n",), "upstream_failed"),
        ((b"data: {]\n\n",), "upstream_garbled"),
        ((b"data: \xff\xfe\n\n",), "upstream_garbled"),
        ((b'data: "text"\n\n',), "upstream_garbled"),
        ((event(choices=[{"index": 1, "delta": {"content": "b"}}]),), "upstream_garbled"),
        ((b'data: {"choices":[{"text":"\\ud800"}]}\n\n',), "upstream_truncated"),
        ((said("a", logprobs={"tokens": ["a"], "token_logprobs": []}),), "upstream_garbled"),
        ((said("a", logprobs={"content": [{"token": "a", "logprob": 0, "bytes": [999]}]}),), "upstream_garbled"),
        ((b"data: " + b"x" * (MAX_EVENT_BYTES + 1),), "upstream_garbled"),
        ((*[said("x" * 300_000)] * 4,), "upstream_garbled"),
    ],
)
def test_nothing_else_is_an_answer(pieces, expected):
    assert kind(*pieces) == expected


def test_an_upstream_that_never_ends_is_left():
    ping = b": " + b"x" * 1_000_000 + b"\n\n"
    assert kind(*[ping] * 70) == "upstream_garbled"


@pytest.mark.parametrize("size", [1, 1000])
def test_a_small_limit_does_not_bound_the_reasoning(size):
    thought = event(choices=[{"index": 0, "delta": {"reasoning_content": "hm" * size}}])
    *_, last = outputs(*[thought] * 400, said("42"), ended(), DONE, max_tokens=1)
    assert last.finish is not None


@pytest.mark.parametrize(
    "piece",
    [
        said("x" * 300_000),
        called("f", "x" * 300_000),
        b": " + b"x" * 1_000_000,
        b"data: " + b"x" * (MAX_EVENT_BYTES + 1),
    ],
)
def test_an_answer_that_is_too_long_is_the_models_fault(piece):
    with pytest.raises(UpstreamCallError) as caught:
        outputs(*[piece] * 80, max_tokens=1)
    assert caught.value.failure.breaker_outcome is None


def test_our_own_sentence_on_an_error_quotes_nothing():
    with pytest.raises(UpstreamCallError) as caught:
        outputs(event(error={"message": "the prompt 'my secret' is bad", "code": "bad_thing"}))
    failure = caught.value.failure
    assert failure.message == "The upstream ended its answer with an error."
    assert (failure.upstream_error.code, failure.upstream_error.message) == (
        "bad_thing",
        "the prompt 'my secret' is bad",
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "content", "finish_reason", "index", "usage", "error", "text", "logprobs"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(st.binary(max_size=60) | JSON.map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\n")))
def test_whatever_comes_is_an_answer_or_a_failure(pieces):
    """No other exception, and exactly one finish, at the end."""
    reader = ResponseReader(1, 50)
    finishes = 0
    try:
        for piece in [*pieces, b"\n\n", DONE]:
            output = reader.feed(piece)
            finishes += output is not None and output.finish is not None
            assert finishes == reader.done
            if reader.error is not None:
                raise reader.error
        output = reader.end()
        assert finishes + (output is not None and output.finish is not None) == 1
    except UpstreamCallError:
        assert not reader.done
