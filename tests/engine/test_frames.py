"""However a pipe cuts them, the same messages come out, in order."""

import io
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model.table import Bytes, Seconds
from engine.frames import MOST_BYTES, FrameBuffer, frame, read_frame


class Told(msgspec.Struct, frozen=True):
    text: str
    path: Path = Path("a")
    wait: Seconds = Seconds(1.5)
    size: Bytes = Bytes(7)


@given(st.lists(st.text(max_size=40), max_size=8), st.integers(1, 50))
def test_a_buffer_makes_whole_messages_of_any_parts(texts: list[str], part: int) -> None:
    data = b"".join(frame(Told(text)) for text in texts)
    buffer = FrameBuffer()
    bodies = [body for at in range(0, len(data), part) for body in buffer.feed(data[at : at + part])]
    assert [msgspec.msgpack.decode(body)["text"] for body in bodies] == texts


def test_one_comes_back_with_its_types_and_none_at_the_end() -> None:
    pipe = io.BytesIO(frame(Told("x")))
    told = read_frame(pipe, Told)
    assert told == Told("x")
    assert type(told.wait) is Seconds
    assert read_frame(pipe, Told) is None
    assert read_frame(io.BytesIO(frame(Told("x"))[:-1]), Told) is None


def test_one_that_is_too_long_is_refused_before_it_is_kept() -> None:
    with pytest.raises(ValueError, match="are allowed"):
        FrameBuffer().feed((MOST_BYTES + 1).to_bytes(8, "little"))


def test_what_no_message_holds_is_refused() -> None:
    with pytest.raises(NotImplementedError):
        frame(Told(object()))  # type: ignore[arg-type]
