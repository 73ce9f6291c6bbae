"""Decodes TOML values into the types of `config.model`, and reports all faults instead of only the first.

A value that cannot be decoded is reported, marked as broken and replaced by a placeholder, so that the rest can still
be checked. The result may be used only if no error was reported.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any

import msgspec
import msgspec.inspect

from config.model.bounds import Bound, bound_of, is_64_bit, may_be_auto, plain, required
from config.model.routing import Use
from config.model.settings import Settings
from config.model.table import AUTO, Table
from config.model.units import NOTATIONS
from config.model.upstreams import SecretSource
from config.parse.rewrite import guesses, write
from config.problems.problems import Problems, nearest
from config.problems.secrets import is_secret_name
from config.problems.source_map import Path, show_path

_Info = msgspec.inspect.Type
SETTINGS = msgspec.inspect.type_info(Settings)


def decode_settings(document: dict[str, object], problems: Problems) -> Settings:
    """Decode a whole file."""
    settings = _Decoder(problems, document).value(SETTINGS, document, ())
    assert isinstance(settings, Settings)
    return settings


def decode_value(info: msgspec.inspect.Type, value: object, problems: Problems, path: Path) -> object:
    """Decode one value, which is at `path`, to the given type."""
    return _Decoder(problems, {}).value(info, value, path)


def file_fields(info: msgspec.inspect.StructType) -> list[msgspec.inspect.Field]:
    """The fields that can be set in a file: not those that are filled in after it was read, such as calibrations."""
    return [field for field in info.fields if not _is_filled_in(field.type)]


def _is_filled_in(info: _Info) -> bool:
    match info:
        case msgspec.inspect.UnionType(types=types):
            return any(map(_is_filled_in, types))
        case msgspec.inspect.StructType(cls=cls):
            return not issubclass(cls, Table)
    return False


_SCALARS: Mapping[type[_Info], tuple[Any, Callable[[Any], object], str]] = {
    msgspec.inspect.BoolType: (bool, bool, "true or false"),
    msgspec.inspect.StrType: (str, str, "a string"),
    msgspec.inspect.IntType: (int, int, "a whole number"),
    msgspec.inspect.FloatType: ((int, float), float, "a number"),
}
"""Types of values in TOML, the type that is made of them, and a description."""


class _Decoder:
    def __init__(self, problems: Problems, document: Mapping[str, object] | None = None) -> None:
        self._problems = problems
        self._document = document or {}
        self._bound: Bound | None = None
        """The range of the field that is being decoded."""
        self._guesses = document is not None
        """Whether to guess what a wrong value was meant to be."""

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
            case msgspec.inspect.UnionType():
                return self.value(required(info), value, path)
            case msgspec.inspect.Metadata(type=inner):
                return self._or_auto(info, value, path) if may_be_auto(info) else self.value(inner, value, path)
            case msgspec.inspect.LiteralType(values=values):
                return self._literal(tuple(values), value, path)
            case msgspec.inspect.CustomType(cls=cls):
                return self._custom(info, cls, value, path)
        accepted, made, expected = _SCALARS[type(info)]
        if isinstance(value, int) and not is_64_bit(value):
            self._too_large(value, path)
            return None
        if isinstance(value, accepted) and (made is bool or not isinstance(value, bool)):
            return made(value)
        return self._wrong(info, path, expected, value, None)

    def _struct(self, info: msgspec.inspect.StructType, value: object, path: Path) -> object:
        if not isinstance(value, dict):
            return self._wrong(info, path, "a table", value, _placeholder(info))
        fields = {field.encode_name: field for field in file_fields(info)}
        value = self._respelled(fields, value, path)
        given: dict[str, object] = {}
        for field in fields.values():
            here = (*path, field.encode_name)
            if field.encode_name in value:
                given[field.name] = self._field(field, value[field.encode_name], here)
            elif field.required:
                self._problems.add_at_key(
                    here, f"the key '{field.encode_name}' is missing", expected=_describe(field.type), breaks=True
                )
                given[field.name] = _placeholder(field.type)
        return info.cls(**given)

    def _field(self, field: msgspec.inspect.Field, value: object, path: Path) -> object:
        """The value of a field; if it is wrong, a guess of what was meant, or the default."""
        before, self._bound = self._bound, bound_of(field.type)
        decoded = self.value(field.type, value, path)
        is_good = self._is_within(decoded) or value == "auto"
        if not is_good:
            self._problems.add(path, f"{_show(value)} is out of range", expected=str(self._bound), breaks=True)
        if decoded is None or not is_good:
            decoded = _default(field)
        self._bound = before
        return decoded

    def _is_within(self, decoded: object) -> bool:
        return self._bound is None or not isinstance(decoded, int | float) or self._bound.allows(decoded)

    def _respelled(
        self, fields: Mapping[str, msgspec.inspect.Field], value: dict[str, object], path: Path
    ) -> dict[str, object]:
        """The table with misspelled keys corrected, so that the misspelling causes no further problems."""
        corrected = dict(value)
        for key in value:
            if key in fields:
                continue
            if (key == "value" or is_secret_name(key)) and "hash" in fields and "hash" not in value:
                self._problems.add_at_key(
                    (*path, key),
                    f"'{key}' is not stored: only the hash of a key is",
                    expected="'id' and 'hash', as penstock keys new prints them",
                )
                corrected = {"id": f"key-{path[-1]}", "hash": "0" * 64} | corrected
                del corrected[key]
                continue
            meant = nearest(key, fields)
            self._problems.add_at_key(
                (*path, key),
                f"unknown key '{key}'",
                expected="" if meant else f"one of: {', '.join(sorted(fields))}",
                suggestion=meant,
            )
            inner = corrected.pop(key)
            if not meant:
                continue
            if meant not in corrected and _tried(fields[meant].type, inner)[0]:
                corrected[meant] = inner
            elif isinstance(present := corrected.get(meant), dict) and isinstance(inner, dict):
                corrected[meant] = inner | present
        return corrected

    def _dict(self, info: msgspec.inspect.DictType, value: object, path: Path) -> dict[str, object]:
        if not isinstance(value, dict):
            self._wrong(info, path, _describe(info), value, None)
            return {}
        for key in value:
            if not key.strip():
                self._problems.add_at_key((*path, key), "a name must not be empty")
        return {key: self._member(info.value_type, member, (*path, key)) for key, member in value.items()}

    def _member(self, info: _Info, value: object, path: Path) -> object:
        decoded = self.value(info, value, path)
        return _placeholder(info) if decoded is None else decoded

    def _tuple(self, info: msgspec.inspect.VarTupleType, value: object, path: Path) -> tuple[object, ...]:
        if not isinstance(value, list):
            if isinstance(value, dict) and isinstance(info.item_type, msgspec.inspect.StructType):
                expected = f"a list of tables: write [[{show_path(path)}]]"
                self._problems.add(path, f"got {_show(value)}", expected=expected, breaks=True)
                return ()
            decoded = self._wrong(info, path, _describe(info), value, ())
            return decoded if isinstance(decoded, tuple) else ()
        item = info.item_type
        if isinstance(item, msgspec.inspect.LiteralType):
            # Invalid members are left out: a placeholder would be one of the allowed words.
            words = (self.value(item, member, (*path, index)) for index, member in enumerate(value))
            return tuple([word for word in words if word is not None])
        return tuple([self._member(item, member, (*path, index)) for index, member in enumerate(value)])

    def _literal(self, values: tuple[object, ...], value: object, path: Path) -> object:
        if any(value == allowed and type(value) is type(allowed) for allowed in values):
            return value
        words = [str(allowed) for allowed in values]
        only = value[0] if isinstance(value, list) and len(value) == 1 else value
        meant = nearest(only, words) if isinstance(only, str) else ""
        self._problems.add(
            path, f"{_show(value)} is not allowed", expected=_one_of(values), suggestion=meant, breaks=True
        )
        return values[words.index(meant)] if meant else None

    def _or_auto(self, info: msgspec.inspect.Metadata, value: object, path: Path) -> object:
        if value == "auto":
            return AUTO
        kind = str if isinstance(info.type, msgspec.inspect.CustomType) else int
        if type(value) is not kind:
            return self._wrong(info.type, path, _describe(info), value, None)
        return self.value(info.type, value, path)

    def _custom(self, info: _Info, cls: type, value: object, path: Path) -> object:
        if cls is FilePath:
            if isinstance(value, str) and value and "\0" not in value:
                return FilePath(value)
            return self._wrong(info, path, "a path", value, None)
        text = value if isinstance(value, str) else value.isoformat() if isinstance(value, dt.datetime) else ""
        try:
            parsed = NOTATIONS[cls].parse(text)
        except ValueError:
            return self._wrong(info, path, NOTATIONS[cls].expected, value, None)
        if isinstance(parsed, int) and not is_64_bit(parsed):
            self._too_large(value, path)
            return None
        return parsed

    def _too_large(self, value: object, path: Path) -> None:
        shown = _show(value)
        shown = shown if len(shown) <= 60 else f"a number of {len(shown)} digits"
        self._problems.add(path, f"{shown} is too large", expected="what fits into 64 bits", breaks=True)

    def _wrong(self, info: _Info, path: Path, expected: str, value: object, placeholder: object) -> object:
        """Report a value of the wrong type. Returns a guess of what was meant, or the placeholder."""
        if not self._guesses:
            self._problems.add(path, f"got {_show(value)}", expected=expected, breaks=True)
            return placeholder
        meant, decoded = self._meant(info, value, path)
        if meant:
            is_list = isinstance(info, msgspec.inspect.VarTupleType)
            expected = f"{'a list' if is_list else expected}: write {meant}"
        hidden = any(isinstance(step, str) and is_secret_name(step) for step in path)
        shown = "a string" if hidden and isinstance(value, str) else _show(value)
        self._problems.add(path, f"got {shown}", expected=expected, breaks=True)
        return decoded if meant else placeholder

    def _meant(self, info: _Info, value: object, path: Path) -> tuple[str, object]:
        """A guess of what the value was meant to be, as TOML and decoded; "" without a guess."""
        if isinstance(info, msgspec.inspect.StructType) and info.cls is SecretSource:
            return '{ env = "NAME_OF_A_VARIABLE" }', None
        highest = None if self._bound is None else self._bound.high
        candidates = list(guesses(info, value, highest))
        if isinstance(info, msgspec.inspect.StructType) and info.cls is Use and isinstance(value, str):
            ladders = self._document.get("ladders")
            candidates.sort(
                key=lambda guess: (guess == {"ladder": value}) != (isinstance(ladders, dict) and value in ladders)
            )
        for guess in candidates:
            is_valid, decoded = _tried(info, guess)
            if is_valid and self._is_within(decoded):
                return write(guess), decoded
        return "", None


def _tried(info: _Info, value: object) -> tuple[bool, object]:
    """Whether the value can be decoded without a problem, and what it decodes to."""
    problems = Problems.unplaced()
    decoded = _Decoder(problems).value(info, value, ())
    return not len(problems), decoded


def _default(field: msgspec.inspect.Field) -> object:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return _placeholder(field.type)


def _placeholder(info: _Info) -> object:
    info = plain(info)
    match info:
        case msgspec.inspect.StructType():
            return info.cls(**{field.name: _placeholder(field.type) for field in info.fields if field.required})
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
            return f'{_describe(inner)}, or "auto"' if may_be_auto(info) else _describe(inner)
        case msgspec.inspect.LiteralType(values=values):
            return _one_of(tuple(values))
        case msgspec.inspect.CustomType(cls=cls):
            return "a path" if cls is FilePath else NOTATIONS[cls].expected
    return _SCALARS[type(info)][2]


def _one_of(values: tuple[object, ...]) -> str:
    shown = [_show(value) for value in values]
    return shown[0] if len(shown) == 1 else f"one of: {', '.join(shown)}"


def _show(value: object) -> str:
    match value:
        case str():
            return write(value if len(value) <= 60 else value[:57] + "...")
        case dict():
            return "a table"
        case list():
            return "a list"
        case dt.date() | dt.time():
            return f"the date or time {value}"
    return write(value)
