import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests.client import failures
from loadtests.client.answer import Answer
from loadtests.client.event_reader import BodyReader, EventReader
from tests.loadtests.scripted_server import FINISH, event, events, said, usage


def read(parts: list[bytes], **more) -> Answer:
    answer = Answer(keep_text=True, **more)
    answer.begin(200, {}, 0.0)
    reader = EventReader(answer)
    for at, part in enumerate(parts):
        reader.feed(part, float(at))
    reader.end(float(len(parts)), in_order=True)
    return answer


def seen(answer: Answer) -> tuple[object, ...]:
    return answer.failure, "".join(answer.text), len(answer.times), answer.usage, answer.finished, answer.done


TEXTS = st.lists(st.text(max_size=6), max_size=8)


@given(TEXTS, st.lists(st.integers(0, 2000), max_size=6), st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_bytes_may_be_cut_anywhere(texts: list[str], cuts: list[int], crlf: bool) -> None:
    tokens = sum(bool(text) for text in texts)
    data = b"".join(event(each) for each in [*map(said, texts), FINISH, usage(tokens), "[DONE]"])
    if crlf:
        data = data.replace(b"\n", b"\r\n")
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    parts = [data[begin:end] for begin, end in itertools.pairwise(places)]
    answer = read(parts)
    assert seen(answer) == seen(read([data]))
    assert (answer.failure, "".join(answer.text), len(answer.times)) == ("", "".join(texts), tokens)


ALIKE = [
    said("a"),
    said("b"),
    {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]},
    {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"reasoning_content": "a"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0}]}, "finish_reason": None}]},
    {"choices": [{"index": 0, "text": "a", "finish_reason": None}]},
    {"choices": [{"index": 0, "text": 'a"b', "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": 'say "content":"x"'}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": "\u00e9\\"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": [{"type": "text", "text": "a"}]}, "finish_reason": None}]},
    {"choices": [], "usage": {"completion_tokens": 3}},
    {"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"completion_tokens": 1}},
    {"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]},
    {"error": None, "choices": [{"index": 0, "delta": {"content": "c"}}]},
    {"choices": [{"index": 0, "delta": {"content": "a"}}], "penstock": {"rung": "x"}},
]


@given(st.lists(st.sampled_from(ALIKE), max_size=12), st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_event_like_the_last_one_counts_as_if_it_were_decoded(chunks: list[object], ascii_only: bool) -> None:
    lines = [json.dumps(chunk, separators=(",", ":"), ensure_ascii=ascii_only).encode() for chunk in chunks]
    quick = read([b"data: %b\n\n" % line for line in lines])
    # Two lines of data are decoded, whatever stood before.
    decoded = read([b"event: message\ndata: %b\n\n" % line for line in lines])
    assert seen(quick) == seen(decoded)
    assert quick.rung == decoded.rung


def test_times_are_those_of_the_bytes() -> None:
    answer = read([event(each) for each in events(3)])
    assert answer.first_s == 0.0
    assert answer.times.tolist() == [0.0, 1.0, 2.0]
    assert answer.complete


@pytest.mark.parametrize(
    ("headers", "status", "body", "name", "code"),
    [
        ({}, 200, b"<html>", failures.GARBLED, ""),
        ({}, 500, b'{"error":{"message":"m","code":"engine_down"}}', failures.REFUSED, "engine_down"),
        ({}, 503, b"gateway says no", failures.SHED, ""),
        ({}, 422, b'{"error":{"message":"m","type":"bad","code":null}}', failures.REFUSED, "bad"),
        ({}, 200, b'{"choices":[]}', failures.NO_FINISH_REASON, ""),
    ],
)
def test_bodies(headers, status: int, body: bytes, name: str, code: str) -> None:
    answer = Answer()
    answer.begin(status, headers, 0.0)
    reader = BodyReader(answer)
    reader.feed(body[:5], 0.0)
    reader.feed(body[5:], 0.0)
    reader.end(1.0, in_order=True)
    assert (answer.failure, answer.code) == (name, code)


def test_no_buffer_is_without_a_bound() -> None:
    answer = Answer()
    answer.begin(200, {}, 0.0)
    reader = EventReader(answer)
    assert not all(reader.feed(b"data: " + b"x" * 2**20, 0.0) for _ in range(6))
    assert answer.failure == failures.GARBLED


def test_a_server_s_own_times_are_kept() -> None:
    answer = read([event(said("a", timings={"prompt_ms": 12.5, "predicted_n": 3, "queue_ms": 4}))])
    assert answer.timings == {"prompt": 0.0125, "queue": 0.004}
