"""Durations and sizes are read strictly."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model.units import (
    parse_clock_time,
    parse_duration,
    parse_expiry,
    parse_moment,
    parse_size,
    parse_span,
    write_clock_time,
    write_duration,
    write_moment,
    write_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("2s", 2), ("1.5s", 1.5), ("10m", 600), ("6h", 21_600), ("1d", 86_400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(("text", "size"), [("512KiB", 524_288), ("64MiB", 2**26), ("0.5GiB", 2**29), ("7B", 7)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "5 s",
        " 5s",
        "5s ",
        "5S",
        "-5s",
        "+5s",
        "1e3s",
        "1m30s",
        ".5s",
        "5.s",
        "٥s",
        "5s\n",
        "9" * 30 + "s",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["64", "64MB", "64mib", "-1B", "0.3B", "1TiB", "0.1KiB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


@settings(deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_every_whole_duration_is_read(number: int, unit: str) -> None:
    factor = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}[unit]
    assert parse_duration(f"{number}{unit}") == pytest.approx(number * factor)


@given(st.integers(1, 10**7), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_what_is_written_is_read_again(number: int, unit: str) -> None:
    seconds = parse_duration(f"{number}{unit}")
    assert parse_duration(write_duration(seconds)) == pytest.approx(seconds)
    size = parse_size(f"{number}KiB")
    assert parse_size(write_size(size)) == size
    minutes = number % 1440
    assert parse_clock_time(write_clock_time(minutes)) == minutes
    assert write_duration(7200) == "2h"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01 01:00:10+01:00", 10),
        ("1970-01-01t00:00:01.5z", 1.5),
        ("2027-01-31T00:00:00Z", 1_801_353_600),
    ],
)
def test_moments(text: str, seconds: float) -> None:
    assert parse_moment(text) == seconds
    assert parse_moment(write_moment(seconds)) == int(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2027-01-31",
        "2027-01-31T00:00:00",
        "2027-13-31T00:00:00Z",
        "2027-01-31T00:00Z",
        "soon",
        "1",
        "9999-12-31T23:59:59-01:00",
        "0001-01-01T00:00:00+01:00",
    ],
)
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_moment(text)


def test_spans_end_at_a_date() -> None:
    now = parse_moment("2027-01-31T00:00:00Z")
    assert parse_expiry("1d", now) - now == parse_span("1d", now) == 86_400
    for parse in (parse_expiry, parse_span):
        with pytest.raises(ValueError, match="ends at no date"):
            parse("99999999d", now)
