"""What real servers say beside the fields that are read: one row each."""

from contextlib import suppress
from itertools import zip_longest
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.api.extra_fields import ExtraFields, joined
from actors.protocol.delivery import TextDelta
from actors.upstream.failures.failure import UpstreamCallError
from actors.upstream.reading.response_reader import ResponseReader
from tests.actors.upstream.dialects import delta, end, part, parts, sse, usage, whole

CITED = {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}, "index": 0}
FILTERED = {"hate": {"filtered": False, "severity": "safe"}}
NAMES = {
    "annotations", "arguments", "audio", "choices", "content", "data", "delta", "error", "finish_reason", "function",
    "id", "index", "message", "name", "reasoning", "reasoning_details", "refusal", "role", "signature", "text",
    "thinking", "thinking_blocks", "tool_calls", "type", "usage", "a\ud800",
}  # fmt: skip
OPEN, HI = delta("", role="assistant"), delta("Hi")
ROWS: dict[str, tuple[bytes, ExtraFields | None]] = {
    "nothing": (sse(OPEN, HI, end(), usage(3, 1)), None),
    "nothing, as nulls and empty values": (
        sse(
            delta("", role="assistant", audio=None, annotations=[]),
            HI | {"service_tier": None, "citations": [], "prompt_token_ids": None},
            end(stop_reason=None, token_ids=None),
            usage(3, 1, prompt_tokens_details=None, completion_tokens_details={"reasoning_tokens": 0}),
        ),
        None,
    ),
    "nothing, whole": (whole({"content": "Hi", "annotations": []}, service_tier=None), None),
    "openai: a tier, in all events": (
        sse(*[each | {"service_tier": "flex"} for each in (OPEN, HI, delta(" you"), end())]),
        ExtraFields({"service_tier": "flex"}),
    ),
    "openai: padding of the events": (
        sse(*[each | {"obfuscation": "x" * at} for at, each in enumerate((OPEN, HI, delta(" you"), end()))]),
        None,
    ),
    "together: a token's id": (sse(OPEN, delta("Hi", token_id=5), delta("", token_id=6), end()), None),
    "groq: a channel, in all events": (
        sse(OPEN, delta(reasoning="Hm", channel="analysis"), *[delta("Hi", channel="final")] * 3, end()),
        ExtraFields(message={"channel": "final"}),
    ),
    "mistral: references, images in the content": (
        sse(
            delta([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]),
            delta([{"type": "text", "text": "Hi"}, {"type": "reference", "reference_ids": [1]}]),
            delta([{"type": "image_url", "image_url": {"url": "data:x"}}]),
            delta(" you"),
            end(),
        ),
        ExtraFields(
            message={
                "content_parts": [
                    {"type": "reference", "reference_ids": [1]},
                    {"type": "image_url", "image_url": {"url": "data:x"}},
                ]
            }
        ),
    ),
    "mistral: references, whole": (
        whole({"content": [{"type": "text", "text": "Hi"}, {"type": "reference", "reference_ids": [1]}]}),
        ExtraFields(message={"content_parts": [{"type": "reference", "reference_ids": [1]}]}),
    ),
    "openai: annotations": (
        sse(OPEN, HI, delta(annotations=[CITED]), end()),
        ExtraFields(message={"annotations": [CITED]}),
    ),
    "openai: annotations, whole": (
        whole({"content": "Hi", "annotations": [CITED]}),
        ExtraFields(message={"annotations": [CITED]}),
    ),
    "openai: a sound": (
        sse(
            OPEN,
            delta(audio={"id": "a1", "transcript": "Hel"}),
            delta(audio={"transcript": "lo", "data": "QU"}),
            delta(audio={"data": "JD", "expires_at": 9}),
            delta("Hi"),
            end(),
        ),
        ExtraFields(message={"audio": {"id": "a1", "transcript": "Hello", "data": "QUJD", "expires_at": 9}}),
    ),
    "openai: details of the usage": (
        sse(HI, end(), usage(3, 1, completion_tokens_details={"reasoning_tokens": 0, "audio_tokens": 5})),
        ExtraFields(usage={"completion_tokens_details": {"audio_tokens": 5}}),
    ),
    "openrouter: an image, a cost, its own finish reason": (
        sse(
            OPEN,
            HI,
            delta("", images=[IMAGE]),
            end(native_finish_reason="STOP"),
            usage(3, 1, cost=0.5) | {"provider": "p"},
        ),
        ExtraFields({"provider": "p"}, {"native_finish_reason": "STOP"}, {"images": [IMAGE]}, {"cost": 0.5}),
    ),
    "openrouter: reasoning with a signature": (
        sse(
            delta(reasoning="Hm", reasoning_details=[{"type": "reasoning.text", "text": "Hm", "index": 0}]),
            delta(reasoning_details=[{"type": "reasoning.text", "signature": "s", "index": 0}]),
            HI,
            end(),
        ),
        ExtraFields(
            message={"reasoning_details": [{"type": "reasoning.text", "text": "Hm", "signature": "s", "index": 0}]}
        ),
    ),
    "perplexity: citations so far": (
        sse(*[HI | {"citations": ["a", "b"][:count]} for count in (1, 2, 2)], end()),
        ExtraFields({"citations": ["a", "b"]}),
    ),
    "perplexity: the whole message in the last event": (
        sse(
            delta("Hi", annotations=[CITED]),
            {"choices": [{"index": 0, "message": {"content": "Hi", "annotations": [CITED]}, "finish_reason": "stop"}]},
        ),
        ExtraFields(message={"annotations": [CITED]}),
    ),
    "azure: filters, before the answer and in its events": (
        sse(
            {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
            OPEN,
            *[{"choices": [each["choices"][0] | {"content_filter_results": FILTERED}]} for each in (HI, end())],
        ),
        ExtraFields({"prompt_filter_results": [{"prompt_index": 0}]}, {"content_filter_results": FILTERED}),
    ),
    "vllm: what stopped it": (sse(HI, end(stop_reason="###")), ExtraFields(choice={"stop_reason": "###"})),
    "llama.cpp: times": (
        sse(HI, end(), {"choices": [], "timings": {"predicted_ms": 1.5}}),
        ExtraFields({"timings": {"predicted_ms": 1.5}}),
    ),
    "groq": (sse(HI | {"x_groq": {"id": "r"}}, end()), ExtraFields({"x_groq": {"id": "r"}})),
    "leniently read": (
        b'data: {"choices": [{"index": "0", "delta": {"content": "Hi", "annotations": [{"at": 1}]}}],'
        b' "citations": ["\\ud800"]}\n\n' + sse(end()),
        ExtraFields({"citations": ["\ufffd"]}, message={"annotations": [{"at": 1}]}),
    ),
    "leniently read, with names that cannot be written": (
        b'data: {"choices": [{"index": "0", "delta": {"content": "Hi", "annotations": [{"\\ud800": 1}]}}],'
        b' "a\\ud800": 1}\n\n' + sse(end()),
        ExtraFields({"a\ufffd": 1}, message={"annotations": [{"\ufffd": 1}]}),
    ),
    "numbers beyond 64 bits": (
        sse(HI | {"a": [10**30, 1 << 63, "x"], "b": 10**400}, end()),
        ExtraFields({"a": [1e30, 1 << 63, "x"], "b": None}),
    ),
    "a text completion": (
        sse({"choices": [{"index": 0, "text": "Hi", "safe": True}], "service_tier": "flex"}, end()),
        ExtraFields({"service_tier": "flex"}, {"safe": True}),
    ),
    "of errors and keep-alives": (sse({"type": "ping"}, HI | {"code": 0, "msg": "ok", "base_resp": {}}, end()), None),
}


def read(spoken: bytes, size: int = 1 << 24, **options: Any) -> list[TextDelta]:
    reader = ResponseReader(1, 100, **options)
    said = [reader.feed(spoken[start : start + size]) for start in range(0, len(spoken), size)]
    said.append(reader.end())
    return [each for each in said if each is not None]


def of(said: list[TextDelta]) -> ExtraFields | None:
    found = joined([each.extras for each in said if each.extras is not None])
    return None if found is None else ExtraFields(found.body, found.choice, found.message, found.usage)


@pytest.mark.parametrize("size", [1, 7, 1 << 24])
@pytest.mark.parametrize("name", ROWS)
def test_what_is_not_read_is_passed_on(name: str, size: int) -> None:
    spoken, expected = ROWS[name]
    said = read(spoken, size)
    assert of(said) == expected
    assert "".join([each.text for each in said])[:2] == "Hi"
    assert of(read(spoken, size, extra_fields=False)) is None


@pytest.mark.parametrize("name", ROWS)
def test_nothing_is_passed_on_before_there_is_content(name: str) -> None:
    """Until then another rung may answer."""
    spoken, _ = ROWS[name]
    for said in read(spoken, 1):
        has_message = said.extras is not None and said.extras.message
        assert said.text or said.reasoning or has_message or said.finish


def test_what_has_not_changed_is_passed_on_once() -> None:
    said = read(sse(*[HI | {"service_tier": "flex", "n": number // 2} for number in range(8)], end()), 1)
    assert [each.extras.body for each in said if each.extras is not None] == [
        {"service_tier": "flex", "n": 0},
        {"n": 1},
        {"n": 2},
        {"n": 3},
    ]


def test_labels_alone_are_no_content() -> None:
    said = read(sse(delta("", channel="analysis"), delta("Hi"), end()), 1)
    assert (said[0].text, said[0].extras) == (
        "Hi",
        ExtraFields(message={"channel": "analysis"}, size=said[0].extras.size),
    )


def test_a_call_in_progress_shows_nothing_of_them() -> None:
    """Until it is whole, another rung may answer."""
    spoken = sse(
        *[
            each | {"service_tier": "flex"}
            for each in (
                parts(part(0, "a", name="now", arguments="{")),
                parts(part(0, arguments="}")),
                end("tool_calls"),
            )
        ]
    )
    said = read(spoken, 1, offered=("now",))
    assert [each.extras is not None for each in said] == [False] * (len(said) - 1) + [True]


def test_a_field_that_changes_all_the_time() -> None:
    """Beyond a mebibyte it waits for the end."""
    said = read(sse(*[HI | {"n": f"{number}" + "x" * (1 << 19)} for number in range(20)], end()), 1 << 15)
    values = [each.extras.body["n"][:2] for each in said if each.extras is not None]
    assert values == ["0x", "1x", "19"]
    assert all(each.extras.size > 1 << 19 for each in said[:2] if each.extras is not None)


@pytest.mark.parametrize("depth", [100, 300, 480, 800, 950, 990])
@pytest.mark.parametrize(
    "event",
    [
        b'{"choices": [{"index": 0, "delta": {"content": %b}}]}',
        b'{"choices": [{"index": "0", "delta": {"content": "Hi"}}], "a": %b}',
        b'{"choices": [{"index": 0, "delta": {"content": "Hi", "images": %b}}]}',
        b'{"choices": [{"index": 0, "delta": {"content": "Hi", "reasoning_details": %b}}]}',
        b'{"choices": [{"index": 0, "delta": {"tool_calls": [{"name": "now", "arguments": {"a": %b}}]}}]}',
    ],
)
def test_what_is_too_deep_is_left_out_or_a_failure(event: bytes, depth: int) -> None:
    deep = event % (b"[" * depth + b"]" * depth)
    reader = ResponseReader(1, 100, offered=("now",))
    failure, said = "", []
    try:
        said = [reader.feed(b"data: " + deep + b"\n\n"), reader.feed(sse(end()))]
    except UpstreamCallError as error:
        failure = error.failure.kind
    assert failure in {"", "upstream_garbled"}
    assert all(each is None or each.extras is None for each in said)


def test_events_of_text_alone_stay_unread_beside_it() -> None:
    """The template of an event is not that of one with fragments of other fields."""
    said = read(sse(delta("Hi", annotations=[CITED]), *[HI] * 20, end()), 50)
    assert "".join([each.text for each in said]) == "Hi" * 21
    assert of(said) == ExtraFields(message={"annotations": [CITED]})


ANY = st.recursive(
    st.sampled_from([None, "", 0, True, 0.5, "hi", "QQ==", "{}", "\ud800", 10**30, float("nan"), float("inf"), "now"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(NAMES)), inner, max_size=4),
    max_leaves=12,
)


@example([], [{"content": {"type": {}}}])
@example([], [{"content": [{"type": "x", "n": 10**30}]}])
@example([{"choices": [{"error": {"message": "\ud800"}}]}], [])
@example([{"error": {"a\ud800": 1}}], [])
@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(sorted(NAMES)), ANY, max_size=4), max_size=4),
    st.lists(st.dictionaries(st.sampled_from(sorted(NAMES)), ANY, max_size=4), max_size=4),
)
def test_any_type_anywhere(events: list[dict[str, Any]], messages: list[dict[str, Any]]) -> None:
    """An upstream's failure, if it cannot be read, and nothing that cannot be written again."""
    reader = ResponseReader(1, 100, offered=("now",), logprobs=True)
    said = []
    with suppress(UpstreamCallError):
        said = [
            reader.feed(sse({"choices": [{"index": 0, "delta": message}], **event}, done=False))
            for event, message in zip_longest(events, messages, fillvalue={})
        ]
        said += [reader.feed(sse(HI, end())), reader.end()]
    extras = [each.extras for each in said if each is not None and each.extras is not None]
    for each in (*extras, joined(extras)):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(each), type=ExtraFields | None) is not False
        assert msgspec.json.encode(each)


def test_an_image_may_take_megabytes_but_not_any_number() -> None:
    large = {"url": "x" * (3 << 20)}
    assert of(read(sse(HI, delta(images=[large]), end()))) == ExtraFields(message={"images": [large]})
    reader = ResponseReader(1, 100)
    assert reader.feed(sse(HI, *[delta(images=[large, number]) for number in range(6)], end())) is not None
    assert reader.error is not None
    assert reader.error.failure.by_model


def test_what_cannot_be_written_again_is_left_out() -> None:
    event = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}], "n": 1e999}\n\n'
    said = read(event + sse(end()))
    assert said[0].text == "Hi"
    assert of(said) is None
