"""Events that are like a decoded one: what is taken without decoding must be what decoding would have shown."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.client import failures
from loadtests.client.answer import Answer
from loadtests.client.http_exchange import HttpExchange
from loadtests.client.known_event import KnownEvent
from tests.loadtests.scripted_server import FINISH, HEAD, chunk, event, said, usage


def learnt(text: str = "a", **more) -> KnownEvent:
    known = KnownEvent()
    known.learn(event(said(text, **more)).removesuffix(b"\n\n"), text)
    return known


@given(st.lists(st.one_of(st.text(min_size=1, max_size=20), st.text("ab", min_size=150)), min_size=1, max_size=4))
def test_chunks_are_taken_if_json_writes_their_texts_as_they_are(texts: list[str]) -> None:
    written = [json.dumps(said(text), separators=(",", ":"), ensure_ascii=False) for text in texts]
    data = b"".join([chunk(f"data: {each}\n\n".encode()) for each in written])
    plain = all(json.dumps(text, ensure_ascii=False) == f'"{text}"' for text in texts)
    taken = learnt().texts_in_chunks(data)
    assert taken is None if not plain else [text.decode() for text in taken or ()] == texts


WHOLE = chunk(event(said("word")))


@pytest.mark.parametrize(
    "data",
    [
        WHOLE[:-1],
        WHOLE[1:],
        WHOLE + b"5",
        WHOLE.replace(b"word", b"words"),  # the chunk's size is another one
        b"0" + WHOLE,
        b"%x\r\n%b" % (len(WHOLE), WHOLE),
        WHOLE.replace(b"word", b'wo"d'),
        WHOLE.replace(b"word", b"wo\\d"),
        WHOLE.replace(b"word", b"wo\nd"),
        WHOLE.replace(b"word", b"wo\xffd"),
        WHOLE.replace(b'"word"', b'"wo"'),
        chunk(event(said(""))),
        chunk(event(said("word"), 1)),
        chunk(event(said("word")) + event(said("word"))),
        chunk(event(FINISH)),
        WHOLE + chunk(event(FINISH)),
        b"",
        b"0\r\n\r\n",
    ],
)
def test_whatever_is_not_whole_and_alike_is_parsed(data: bytes) -> None:
    known = learnt()
    assert known.texts_in_chunks(WHOLE) is not None
    assert known.texts_in_chunks(data) is None


def test_a_text_that_stands_twice_is_not_learnt() -> None:
    known = KnownEvent()
    line = b'data: {"choices":[{"delta":{"content":"a"}},{"delta":{"content":"a"}}]}'
    known.learn(line, "a")
    assert known.text_in(line) is None


PIECES = st.lists(
    st.one_of(
        st.text(min_size=1, max_size=5).map(lambda text: chunk(event(said(text)))),
        st.sampled_from("abc").map(lambda text: chunk(event(said(text)))),
        st.sampled_from(["x", "yz"]).map(lambda text: chunk(event(said(text)) * 2)),
        st.just(chunk(event(FINISH))),
        st.just(chunk(b": still here\n\n")),
        st.just(chunk(event(said("n"), 1))),
        st.just(chunk(b"data: {nonsense\n\n")),
    ),
    max_size=10,
)


@given(PIECES, st.lists(st.integers(1, 400), max_size=8))
def test_reads_of_any_size_show_the_same(pieces: list[bytes], cuts: list[int]) -> None:
    """One byte at a time nothing is ever taken as whole chunks; in pieces as they were sent, most are."""
    data = b"".join(pieces)
    end = chunk(event(usage(len(pieces)))) + chunk(event("[DONE]")) + b"0\r\n\r\n"
    slow = exchanged([data[place : place + 1] for place in range(len(data))], end)
    rest, cut = data, []
    for size in cuts:
        cut.append(rest[:size])
        rest = rest[size:]
    assert exchanged(pieces, end) == slow
    assert exchanged([*cut, rest], end) == slow


def exchanged(reads: list[bytes], end: bytes) -> tuple[object, ...]:
    answer = Answer(keep_text=True)
    exchange = HttpExchange(answer, streamed=True)
    for data in [HEAD + b"\r\n", *filter(None, reads), end]:
        if not exchange.take(data, 0.0):
            break
    if answer.failure:
        return (answer.failure,)
    texts = len(answer.times), answer.events, "".join(answer.text)
    return answer.finished, answer.done, exchange.reusable, texts


def test_a_stream_of_chunks_that_are_alike_is_not_parsed() -> None:
    """What this is for: the reads after the first ones cost no parser."""
    answer = Answer()
    exchange = HttpExchange(answer, streamed=True)
    exchange.take(HEAD + b"\r\n", 0.0)
    for _ in range(3):
        assert exchange.take(chunk(event(said("word"))), 0.0)
    # Bytes that no parser accepts behind a chunk are noticed all the same.
    assert not exchange.take(b"word", 0.0)
    assert answer.failure == failures.GARBLED
    assert len(answer.times) == 3


def test_what_looks_like_a_chunk_inside_of_one_is_no_chunk() -> None:
    answer = Answer()
    exchange = HttpExchange(answer, streamed=True)
    inside = event(said("a")) + WHOLE
    size = b"%x\r\n" % len(inside)
    end = chunk(event(FINISH)) + chunk(event("[DONE]")) + b"0\r\n\r\n"
    begin = [HEAD + b"\r\n", chunk(event(said("a"))), chunk(event(said("a")))]
    for data in [*begin, size + event(said("a")), WHOLE, b"\r\n", end]:
        exchange.take(data, 0.0)
    assert (answer.failure, len(answer.times), exchange.reusable) == ("", 4, True)


def test_an_event_without_a_number_among_numbered_ones_is_missed() -> None:
    answer = Answer()
    exchange = HttpExchange(answer, streamed=True)
    exchange.take(HEAD + b"\r\n", 0.0)
    for data in (event(said("a")), event(said("a")), event(said("a"), 1)):
        assert exchange.take(chunk(data), 0.0)
    assert not exchange.take(chunk(event(said("a"))), 0.0)
    assert answer.failure == failures.MISSING_EVENT
