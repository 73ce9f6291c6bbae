"""An event that differs from a parsed one in the text only is read as if it were parsed; any other is left."""

import json

import pytest

from actors.upstream.reading.event_template import EventTemplate
from actors.upstream.reading.response_reader import ResponseReader


def data(text: str, **more: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return json.dumps({"id": "a", "choices": [choice], **more}, ensure_ascii=False, separators=(",", ":")).encode()


def events(*texts: str) -> bytes:
    return b"".join([b"data: %b\n\n" % data(text) for text in texts])


def learned(text: str = " Hi") -> EventTemplate:
    template = EventTemplate.of(data(text), text)
    assert template is not None
    return template


def test_complete_events_at_the_beginning() -> None:
    assert learned().match(events(" a", "ü", "b c")) == ([" a", "ü", "b c"], b"")
    assert learned().match(events(" a") + b"data: [DONE]\n\n") == ([" a"], b"data: [DONE]\n\n")
    assert learned().match(events(" a", " b")[:-1]) == ([" a"], events(" b")[:-1])


def test_blanks_after_colons() -> None:
    spaced = [json.dumps(json.loads(data(text)), ensure_ascii=False).encode() for text in (" Hi", "ü")]
    template = EventTemplate.of(spaced[0], " Hi")
    assert template is not None
    assert template.match(b"data: %b\n\ndata: %b\n\n" % tuple(spaced)) == ([" Hi", "ü"], b"")
    assert template.match(events("a")) == ([], events("a"))


@pytest.mark.parametrize(
    "rest",
    [
        events('"'),
        events("\\"),
        events("\n"),
        events(""),
        events("a").replace(b"\n\n", b"\r\n\r\n"),
        events("a").replace(b"data: ", b"data:"),
        events("a").replace(b'"index":0', b'"index":1'),
        b"data: %b\n\n" % data("a", usage={"completion_tokens": 1}),
        b": ping\n\n",
        b"event: error\n" + events("a"),
        b"",
    ],
)
def test_others_are_left(rest: bytes) -> None:
    assert learned().match(events("b") + rest) == (["b"], rest)
    assert learned().match(rest) == ([], rest)


def test_a_character_that_is_split_over_two_events_is_left() -> None:
    split = events("b", "ü").replace("ü".encode(), "ü".encode()[:1])
    assert learned().match(split) == ([], split)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (data(""), ""),
        (data('a"'), 'a"'),
        (json.dumps({"choices": [{"delta": {"content": "ü"}}]}).encode(), "ü"),
        # It is not certain which of the two is the text.
        (data("a", same={"content": "a"}), "a"),
        (data("a", echo="a"), "a"),
        (json.dumps({"choices": [{"delta": {"content": "a"}}]}, indent=1).encode(), "a"),
    ],
)
def test_what_is_no_template(event: bytes, text: str) -> None:
    assert EventTemplate.of(event, text) is None


TEXTS = ["", " Hello", ", wor", "ld", '"', "\\n", "é", " 🙂", "", "x" * 40, "\n", "end"]
TAILS = [
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"completion_tokens":30}}\n\n',
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"!"},"finish_reason":"length"}]}\n\n',
]


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("size", [1, 7, 64, 1000, 100_000])
def test_the_answer_is_the_same_as_without(monkeypatch: pytest.MonkeyPatch, size: int, tail: bytes) -> None:
    stream = events(*TEXTS) + tail + b"data: [DONE]\n\n"

    def answer() -> tuple[object, ...]:
        reader = ResponseReader(1, 1000)
        outputs = [reader.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
        given = [output for output in outputs if output is not None]
        text = "".join([output.text for output in given])
        return text, sum([output.token_count for output in given]), given[-1].finish, reader.tokens

    with_it = answer()
    monkeypatch.setattr(EventTemplate, "of", lambda *_: None)
    assert with_it == answer()
