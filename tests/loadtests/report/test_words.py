"""Numbers as pages show them, and text from elsewhere."""

import pytest

from loadtests.report.words import milliseconds, number, percent, plain, seconds


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"),
        (-1.0, "0"),
        (5e-6, "5 µs"),
        (0.0123, "12.3 ms"),
        (0.25, "250 ms"),
        (1.234, "1.23 s"),
        (125.4, "125 s"),
    ],
)
def test_seconds(value: float, words: str) -> None:
    assert seconds(value) == words


@pytest.mark.parametrize(("value", "words"), [(0.0012, "1.20"), (0.1234, "123")])
def test_milliseconds(value: float, words: str) -> None:
    assert milliseconds(value) == words


def test_others() -> None:
    assert (number(1234567.0), number(0.12345), percent(0.05)) == ("1,234,567", "0.123", "5 %")
    assert plain('<a href="x">\x1b\u202e&') == "&lt;a href=&quot;x&quot;&gt;??&amp;"
