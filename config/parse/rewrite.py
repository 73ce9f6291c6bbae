"""Guesses what a value of the wrong type was meant to be, for suggestions such as `300` → `{ at_least = 300 }`.

The caller tries the guesses in order and takes the first that can be decoded.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping

import msgspec
import msgspec.inspect

from config.model.bounds import plain
from config.model.table import Bytes, ClockTime, Moment, Seconds
from config.model.units import write_duration, write_size
from config.problems.source_map import show_path

_Info = msgspec.inspect.Type
_NUMBER = re.compile(r"[-+]?[0-9][0-9_,]*(?:\.[0-9]+)?")
_WITH_UNIT = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-zµ]+)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TIME_WORDS = {
    **dict.fromkeys(("millisecond", "milliseconds", "msec", "msecs", "millis"), "ms"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("week", "weeks"), "w"),
}
_BYTES = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_YES, _NO = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}
_CLOCK = re.compile(r"([0-9]{1,2})(?::([0-9]{2}))?(?::00)?\s*(am|pm)?", re.IGNORECASE)


def guesses(info: _Info, value: object, highest: float | None) -> Iterator[object]:
    """Values of the right type that may have been meant, most likely first. `highest` is the field's upper bound."""
    match info:
        case msgspec.inspect.StructType(fields=fields):
            if not isinstance(value, dict | list):
                yield from ({field.encode_name: value} for field in fields)
                for field in fields:
                    inner = plain(field.type)
                    if not isinstance(inner, msgspec.inspect.StructType | msgspec.inspect.StrType):
                        yield from ({field.encode_name: guess} for guess in guesses(inner, value, highest))
        case msgspec.inspect.DictType(value_type=msgspec.inspect.VarTupleType()) if not isinstance(value, dict):
            # The only such table is one of request headers, whose name is unknown: an example stands for it.
            yield {"x-app": value if isinstance(value, list) else [value]}
        case msgspec.inspect.VarTupleType() if not isinstance(value, list):
            yield [value]
        case msgspec.inspect.BoolType():
            word = str(value).lower()
            yield from (True,) if word in _YES else (False,) if word in _NO else ()
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            yield from _numbers(value, highest)
        case msgspec.inspect.CustomType(cls=cls) if cls in _NOTATIONS:
            yield from _NOTATIONS[cls](value)
        case msgspec.inspect.StrType() if not isinstance(value, dict | list | bool):
            yield str(value)
    if not isinstance(info, msgspec.inspect.StructType | msgspec.inspect.VarTupleType | msgspec.inspect.DictType):
        match value:
            case [only]:
                yield only
            case dict() if len(value) == 1:
                yield next(iter(value.values()))


def write(value: object) -> str:
    """The value as TOML on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        case dict():
            return f"{{ {', '.join(f'{show_path((key,))} = {write(inner)}' for key, inner in value.items())} }}"
        case list():
            return f"[{', '.join(map(write, value))}]"
    return str(value)


def _numbers(value: object, highest: float | None) -> Iterator[object]:
    if isinstance(value, float) and value.is_integer():
        yield int(value)
    if not isinstance(value, str):
        return
    text = value.strip()
    percent = text.endswith("%")
    text = text.removesuffix("%").strip()
    thousands = {"k": 1000, "K": 1000, "M": 1_000_000}.get(text[-1:], 1)
    text = text if thousands == 1 else text[:-1]
    if _NUMBER.fullmatch(text):
        number = float(text.replace(",", "").replace("_", "")) * thousands
        number = round(number / 100, 12) if percent and highest is not None and highest <= 1 else number
        yield int(number) if number.is_integer() else number


def _durations(value: object) -> Iterator[object]:
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        yield write_duration(value)
    if not isinstance(value, str):
        return
    if _NUMBER.fullmatch(value):
        yield f"{value}s"
    if match := _WITH_UNIT.fullmatch(value.strip()):
        word = match[2].lower()
        unit = _TIME_WORDS.get(word, word)
        if unit in _SECONDS:
            yield write_duration(float(match[1]) * _SECONDS[unit])


def _sizes(value: object) -> Iterator[object]:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        yield write_size(value)
    if isinstance(value, str) and (match := _WITH_UNIT.fullmatch(value.strip())):
        factor = _BYTES.get(match[2][0].lower())
        if factor is not None:
            yield write_size(int(float(match[1]) * factor))


def _times(value: object) -> Iterator[object]:
    if isinstance(value, dt.time):
        yield f"{value.hour:02}:{value.minute:02}"
    match = _CLOCK.fullmatch(str(value).strip()) if isinstance(value, str | int) else None
    if match is not None:
        hour = int(match[1]) + (12 if (match[3] or "").lower() == "pm" and int(match[1]) < 12 else 0)
        yield f"{hour:02}:{match[2] or '00'}"


def _moments(value: object) -> Iterator[object]:
    """A date, and a date and time without an offset, are UTC."""
    text = value.isoformat() if isinstance(value, dt.date) else value
    if isinstance(text, str):
        yield from (f"{text}Z", f"{text}T00:00:00Z")


_NOTATIONS: Mapping[type, Callable[[object], Iterator[object]]] = {
    Seconds: _durations,
    Bytes: _sizes,
    ClockTime: _times,
    Moment: _moments,
}
