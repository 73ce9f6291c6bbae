"""The events do not depend on how the bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.upstream.reading.sse import EventTooLong, SseEvent, SseReader

ENDS = ("\n", "\r", "\r\n")
VALUE = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=("Cs",)), max_size=12)


@st.composite
def streams(draw) -> tuple[bytes, list[SseEvent]]:
    """A stream, and the events in it according to the standard, and those that have only a name."""
    written, events = [], []
    for _ in range(draw(st.integers(0, 5))):
        name, data = "", []
        for kind in draw(st.lists(st.sampled_from(["data", "event", "id", "comment", "bare"]), max_size=5)):
            value = draw(VALUE)
            end = draw(st.sampled_from(ENDS))
            if kind == "comment":
                written.append(":" + value + end)
            elif kind == "bare":
                written.append("data" + end)
                data.append("")
            else:
                space = draw(st.sampled_from(["", " "]))
                written.append(kind + ":" + space + value + end)
                said = value if space else value.removeprefix(" ")
                if kind == "data":
                    data.append(said)
                elif kind == "event":
                    name = said
        written.append(draw(st.sampled_from(ENDS)))
        if data or name:
            events.append(SseEvent(name.encode(), "\n".join(data).encode()))
    text = ""
    for piece in written:
        # An adjacent CR and LF would be one line end.
        text += "\r" if piece == "\n" and text.endswith("\r") else piece
    return text.encode(), events


@given(streams(), st.lists(st.integers(0, 400)), st.booleans())
def test_any_cut_gives_the_same_events(stream, cuts, marked):
    text, events = stream
    if marked:
        text = b"\xef\xbb\xbf" + text
    reader = SseReader()
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    found = []
    for start, end in pairwise(places):
        found += reader.feed(text[start:end])
    assert found == events


def test_what_has_no_empty_line_after_it_is_no_event():
    reader = SseReader()
    assert reader.feed(b"data: half\n") == []
    assert reader.feed(b"\n") == [SseEvent(b"", b"half")]


@pytest.mark.parametrize("piece", [b"data: aaaa\n", b"aaaaaaaaaa", b": aaaaaaaaaa"])
def test_nothing_grows_without_bound(piece):
    reader = SseReader(longest=64)
    fed = 0
    while fed <= 200:
        try:
            reader.feed(piece)
        except EventTooLong:
            return
        fed += len(piece)
    pytest.fail("it keeps more than its bound")


def test_comments_may_go_on_for_ever():
    reader = SseReader(longest=64)
    assert [event for _ in range(1000) for event in reader.feed(b": ping\n\n")] == []
