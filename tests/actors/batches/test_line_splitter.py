"""A file's lines with their places, however it comes in pieces."""

from hypothesis import given
from hypothesis import strategies as st

from actors.batches.line_splitter import FileLine, LineSplitter


def split(data: bytes, sizes: list[int], most: int = 100) -> list[FileLine]:
    splitter = LineSplitter(most)
    lines: list[FileLine] = []
    at = 0
    for size in [*sizes, len(data)]:
        lines += splitter.feed(data[at : at + size])
        at += size
    return lines + splitter.end()


def test_lines_are_numbered_and_blank_ones_left_out() -> None:
    lines = split(b"a\n\n  \r\nbc\r\nd", [])
    assert [(line.number, line.start, line.raw) for line in lines] == [(1, 0, b"a"), (4, 7, b"bc"), (5, 11, b"d")]


def test_a_long_line_is_reported_and_not_held() -> None:
    lines = split(b"a\n" + b"x" * 500 + b"\nb\n", [3] * 200, most=10)
    assert [(line.raw[:1], line.too_long, line.start) for line in lines] == [
        (b"a", False, 0),
        (b"x", True, 2),
        (b"b", False, 503),
    ]
    assert len(lines[1].raw) <= 11


@given(st.lists(st.binary(max_size=8)), st.lists(st.integers(1, 9)))
def test_the_pieces_do_not_matter(parts: list[bytes], sizes: list[int]) -> None:
    data = b"\n".join([part.replace(b"\n", b" ") for part in parts])
    lines = split(data, sizes)
    assert lines == split(data, [])
    for line in lines:
        assert data[line.start : line.start + len(line.raw)] == line.raw
        assert data[: line.start].count(b"\n") == line.number - 1
