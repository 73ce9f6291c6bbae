"""From TOML's values to the types of `config.settings`, finding every fault instead of the first.

A value that cannot be understood is reported, marked as broken, and replaced by a stand-in, so that the rest can
still be looked at. The result is worth using only if nothing was reported.
"""

import datetime as dt
from pathlib import Path as FilePath

import msgspec
import msgspec.inspect

from config.bounds import BOUNDS
from config.problems import Problems, nearest
from config.settings import Settings
from config.source_map import Path, show_path
from config.table import AUTO, Bytes, ClockTime, Seconds, Table
from config.units import (
    CLOCK_TIME_EXAMPLE,
    DURATION_EXAMPLE,
    SIZE_EXAMPLE,
    parse_clock_time,
    parse_duration,
    parse_size,
)

_Info = msgspec.inspect.Type
SETTINGS = msgspec.inspect.type_info(Settings)
"""What a whole file can say."""


def decode_settings(document: dict[str, object], problems: Problems) -> Settings:
    """The whole file, see above."""
    settings = _Decoder(problems).value(SETTINGS, document, ())
    assert isinstance(settings, Settings)
    return settings


def decode_value(info: msgspec.inspect.Type, value: object, problems: Problems, path: Path) -> object:
    """One value of a known type, which stands at `path`; see above."""
    return _Decoder(problems).value(info, value, path)


def told_fields(info: msgspec.inspect.StructType) -> list[msgspec.inspect.Field]:
    """The fields that a file may give: not those that are filled in when it has been read."""
    return [field for field in info.fields if not _is_filled_in(field.type)]


def _is_filled_in(info: _Info) -> bool:
    match info:
        case msgspec.inspect.UnionType(types=types):
            return any(map(_is_filled_in, types))
        case msgspec.inspect.StructType(cls=cls):
            return not issubclass(cls, Table)
    return False


class _Decoder:
    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def value(self, info: _Info, value: object, path: Path) -> object:
        match info:
            case msgspec.inspect.AnyType():
                return value
            case msgspec.inspect.StructType():
                return self._struct(info, value, path)
            case msgspec.inspect.DictType():
                return self._dict(info, value, path)
            case msgspec.inspect.VarTupleType():
                return self._tuple(info, value, path)
            case msgspec.inspect.UnionType(types=types):
                # TOML has no null: None stands for a key that is not there.
                (inner,) = (kind for kind in types if not isinstance(kind, msgspec.inspect.NoneType))
                return self.value(inner, value, path)
            case msgspec.inspect.Metadata(type=inner):
                return AUTO if value == "auto" else self._or_auto(inner, value, path)
            case msgspec.inspect.LiteralType(values=values):
                return self._literal(tuple(values), value, path)
            case msgspec.inspect.CustomType(cls=cls):
                return self._custom(cls, value, path)
            case msgspec.inspect.BoolType():
                return value if isinstance(value, bool) else self._wrong(path, "true or false", value, False)
            case msgspec.inspect.StrType():
                return value if isinstance(value, str) else self._wrong(path, "a string", value, "")
            case msgspec.inspect.IntType():
                if isinstance(value, int) and not isinstance(value, bool):
                    return value
                return self._wrong(path, "a whole number", value, 1)
            case msgspec.inspect.FloatType():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    return float(value)
                return self._wrong(path, "a number", value, 1.0)
        raise TypeError(f"{show_path(path)}: no rule for {info!r}")

    def _struct(self, info: msgspec.inspect.StructType, value: object, path: Path) -> object:
        if not isinstance(value, dict):
            return self._wrong(path, "a table", value, _stand_in(info))
        fields = {field.encode_name: field for field in told_fields(info)}
        for key in value:
            if key not in fields:
                self._problems.add(
                    (*path, key),
                    f"unknown key '{key}'",
                    expected=f"one of: {', '.join(sorted(fields))}",
                    suggestion=nearest(key, fields),
                    at_key=True,
                )
        given: dict[str, object] = {}
        bounds = BOUNDS.get(info.cls, {})
        for field in fields.values():
            here = (*path, field.encode_name)
            if field.encode_name in value:
                decoded = given[field.name] = self.value(field.type, value[field.encode_name], here)
                bound = None if value[field.encode_name] == "auto" else bounds.get(field.name)
                if bound is not None and isinstance(decoded, (int, float)) and not bound.allows(decoded):
                    shown = value[field.encode_name]
                    self._problems.add(here, f"{_show(shown)} is out of range", expected=str(bound), breaks=True)
            elif field.required:
                self._problems.add(
                    here,
                    f"the key '{field.encode_name}' is missing",
                    expected=_describe(field.type),
                    at_key=True,
                    breaks=True,
                )
                given[field.name] = _stand_in(field.type)
        return info.cls(**given)

    def _dict(self, info: msgspec.inspect.DictType, value: object, path: Path) -> dict[str, object]:
        if not isinstance(value, dict):
            self._wrong(path, _describe(info), value, None)
            return {}
        for key in value:
            if not key.strip():
                self._problems.add((*path, key), "a name must not be empty", at_key=True)
        return {key: self.value(info.value_type, member, (*path, key)) for key, member in value.items()}

    def _tuple(self, info: msgspec.inspect.VarTupleType, value: object, path: Path) -> tuple[object, ...]:
        if not isinstance(value, list):
            expected = _describe(info)
            if isinstance(value, dict):
                expected = f"a list of tables: write [[{show_path(path)}]]"
            elif isinstance(value, str) and isinstance(
                info.item_type, msgspec.inspect.StrType | msgspec.inspect.LiteralType
            ):
                expected = f"a list: write [{_show(value)}]"
            self._wrong(path, expected, value, None)
            return ()
        return tuple(self.value(info.item_type, member, (*path, index)) for index, member in enumerate(value))

    def _literal(self, values: tuple[object, ...], value: object, path: Path) -> object:
        if any(value == allowed and type(value) is type(allowed) for allowed in values):
            return value
        words = [str(allowed) for allowed in values]
        self._problems.add(
            path,
            f"{_show(value)} is not allowed",
            expected=_one_of(values),
            suggestion=nearest(value, words) if isinstance(value, str) else "",
            breaks=True,
        )
        return values[0]

    def _or_auto(self, info: _Info, value: object, path: Path) -> object:
        kind = str if isinstance(info, msgspec.inspect.CustomType) else int
        if type(value) is not kind:
            return self._wrong(path, _describe(msgspec.inspect.Metadata(info)), value, _stand_in(info))
        return self.value(info, value, path)

    def _custom(self, cls: type, value: object, path: Path) -> object:
        if cls is FilePath:
            if isinstance(value, str) and value and "\0" not in value:
                return FilePath(value)
            return self._wrong(path, "a path", value, FilePath())
        if cls is Seconds:
            try:
                return parse_duration(value if isinstance(value, str) else "")
            except ValueError:
                return self._wrong(path, DURATION_EXAMPLE, value, Seconds(1))
        if cls is ClockTime:
            try:
                return parse_clock_time(value if isinstance(value, str) else "")
            except ValueError:
                return self._wrong(path, CLOCK_TIME_EXAMPLE, value, ClockTime(0))
        try:
            return parse_size(value if isinstance(value, str) else "")
        except ValueError:
            return self._wrong(path, SIZE_EXAMPLE, value, Bytes(1))

    def _wrong(self, path: Path, expected: str, value: object, stand_in: object) -> object:
        self._problems.add(path, f"got {_show(value)}", expected=expected, breaks=True)
        return stand_in


def _stand_in(info: _Info) -> object:
    match info:
        case msgspec.inspect.StructType():
            return info.cls(**{field.name: _stand_in(field.type) for field in info.fields if field.required})
        case msgspec.inspect.DictType():
            return {}
        case msgspec.inspect.VarTupleType():
            return ()
        case msgspec.inspect.LiteralType(values=values):
            return values[0]
        case msgspec.inspect.CustomType(cls=cls):
            return cls() if cls is FilePath else cls(1)
        case msgspec.inspect.StrType():
            return ""
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            return 1
    return None


def _describe(info: _Info) -> str:
    match info:
        case msgspec.inspect.StructType():
            return "a table"
        case msgspec.inspect.DictType(value_type=msgspec.inspect.StructType() | msgspec.inspect.DictType()):
            return "a table of tables"
        case msgspec.inspect.DictType():
            return "a table"
        case msgspec.inspect.VarTupleType(item_type=msgspec.inspect.StrType()):
            return 'a list of strings such as ["one", "two"]'
        case msgspec.inspect.VarTupleType(item_type=msgspec.inspect.LiteralType(values=values)):
            return f"a list of {_one_of(tuple(values))}"
        case msgspec.inspect.VarTupleType(item_type=msgspec.inspect.FloatType()):
            return "a list of numbers"
        case msgspec.inspect.VarTupleType():
            return "a list of tables"
        case msgspec.inspect.Metadata(type=inner):
            return f'{_describe(inner)}, or "auto"'
        case msgspec.inspect.LiteralType(values=values):
            return _one_of(tuple(values))
        case msgspec.inspect.CustomType(cls=cls):
            return {
                FilePath: "a path",
                Seconds: DURATION_EXAMPLE,
                Bytes: SIZE_EXAMPLE,
                ClockTime: CLOCK_TIME_EXAMPLE,
            }[cls]
        case msgspec.inspect.IntType():
            return "a whole number"
        case msgspec.inspect.FloatType():
            return "a number"
    return "a string"


def _one_of(values: tuple[object, ...]) -> str:
    shown = [_show(value) for value in values]
    return shown[0] if len(shown) == 1 else f"one of: {', '.join(shown)}"


def _show(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            shown = value if len(value) <= 60 else value[:57] + "..."
            return '"' + shown.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        case dict():
            return "a table"
        case list():
            return "a list"
        case dt.date() | dt.time():
            return f"the date or time {value}"
    return str(value)
