"""Parses and writes durations, sizes, times of day and moments."""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from config.model.table import Bytes, ClockTime, Moment, Seconds

_DURATION_EXAMPLE = 'a duration such as "500ms", "2s", "10m", "6h" or "1d"'
_SIZE_EXAMPLE = 'a size such as "512KiB", "64MiB" or "2GiB"'
_CLOCK_TIME_EXAMPLE = 'a time of day such as "08:00" or "22:30"'
_MOMENT_EXAMPLE = "a date and time with its offset, such as 2027-01-31T00:00:00Z"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_DURATION = re.compile(r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$", re.ASCII)
_SIZE = re.compile(r"^[0-9]+(\.[0-9]+)?(B|KiB|MiB|GiB)$", re.ASCII)
_CLOCK_TIME = re.compile(r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$", re.ASCII)
_MOMENT = re.compile(
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})$", re.ASCII
)
_LATEST_S = 253_402_300_799
"""9999-12-31T23:59:59Z; later moments have no date."""
_MAX_CHARS = 24
"""Longer texts are rejected without parsing."""


def parse_duration(text: str) -> Seconds:
    """Parse "500ms" to 0.5. Raises ValueError for anything but a number and a unit."""
    return Seconds(_amount(text, _DURATION, _DURATION_EXAMPLE, _SECONDS))


def parse_size(text: str) -> Bytes:
    """Parse "64MiB" to 67108864. Raises ValueError for anything but a number and a unit, and for parts of a byte."""
    size = _amount(text, _SIZE, _SIZE_EXAMPLE, _BYTES)
    if not size.is_integer():
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return Bytes(size)


def parse_clock_time(text: str) -> ClockTime:
    """Parse "22:30" to 1350. Raises ValueError for anything but hours and minutes of two digits, up to 24:00."""
    if not _CLOCK_TIME.fullmatch(text):
        raise ValueError(f"{text!r} is not {_CLOCK_TIME_EXAMPLE}")
    hours, minutes = text.split(":")
    return ClockTime(int(hours) * 60 + int(minutes))


def parse_moment(text: str) -> Moment:
    """Parse "2027-01-31T00:00:00Z" to seconds since 1970. Raises ValueError for anything else, also without offset."""
    if not _MOMENT.fullmatch(text):
        raise ValueError(f"{text!r} is not {_MOMENT_EXAMPLE}")
    return _written(dt.datetime.fromisoformat(text.upper()).timestamp(), text)


def parse_expiry(text: str, now: float) -> Moment:
    """Parse "90d", a span from `now` on, or a moment. Raises ValueError."""
    try:
        return parse_moment(text)
    except ValueError as error:
        try:
            span_s = parse_duration(text)
        except ValueError:
            raise ValueError(f"{error}, or a span such as 90d") from None
    return _written(now + span_s, text)


def parse_span(text: str, now: float) -> Seconds:
    """Parse "7d", a duration that begins at `now`. Raises ValueError, also if no date can be written for its end."""
    span_s = parse_duration(text)
    _written(now + span_s, text)
    return span_s


def write_duration(seconds: float) -> str:
    """The inverse of `parse_duration`, in the largest unit without a fraction: "500ms", "2s", "10m", "1d"."""
    for unit in ("d", "h", "m"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.10g}{unit}"
    return f"{seconds * 1000:.10g}ms" if 0 < seconds < 1 else f"{seconds:.10g}s"


def write_size(size: int) -> str:
    """The inverse of `parse_size`: "64MiB", "100B"."""
    for unit in ("GiB", "MiB", "KiB"):
        if size >= _BYTES[unit] and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


def write_clock_time(minutes: int) -> str:
    """The inverse of `parse_clock_time`: "22:30"."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def write_moment(seconds: float) -> str:
    """The inverse of `parse_moment`, in UTC and whole seconds."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _written(seconds: float, text: str) -> Moment:
    if not 0 <= seconds <= _LATEST_S:
        raise ValueError(f"{text!r} ends at no date between 1970 and 9999")
    return Moment(seconds)


def _amount(text: str, form: re.Pattern[str], example: str, units: Mapping[str, float]) -> float:
    if len(text) > _MAX_CHARS or not form.fullmatch(text):
        raise ValueError(f"{text!r} is not {example}")
    number = text.rstrip("BGKMdhims")
    return float(number) * units[text[len(number) :]]


def encodable(value: object) -> float | int | str:
    """A duration, a size, a time of day, a moment or a path as a value that JSON and MessagePack have."""
    if isinstance(value, float):
        return float(value)
    return int(value) if isinstance(value, int) else str(value)


class Notation(NamedTuple):
    """How the values of one type are written in TOML, as strings; a `Moment` as a date-time, too."""

    parse: Callable[[str], object]
    write: Callable[[Any], str]
    pattern: str
    expected: str
    """In words, with examples."""


NOTATIONS: Mapping[type, Notation] = {
    Seconds: Notation(parse_duration, write_duration, _DURATION.pattern, _DURATION_EXAMPLE),
    Bytes: Notation(parse_size, write_size, _SIZE.pattern, _SIZE_EXAMPLE),
    ClockTime: Notation(parse_clock_time, write_clock_time, _CLOCK_TIME.pattern, _CLOCK_TIME_EXAMPLE),
    Moment: Notation(parse_moment, write_moment, _MOMENT.pattern, _MOMENT_EXAMPLE),
}
