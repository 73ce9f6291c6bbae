"""Remove from a JSON Schema what llguidance cannot enforce, for requests with `strict: false`.

llguidance itself ignores keywords that it does not know, with a warning, but refuses unsupported values of known ones:
a pattern with look-around, a bound beyond its range, a reference to another document. These are removed one by one;
everything else is still enforced.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec
from llguidance import LLMatcher

from engine.sampling.schema_numbers import BOUNDS, drop_numbers, escaped, is_number, number_faults
from engine.sampling.schema_patterns import rust_pattern

_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_SINGLE = ("additionalProperties", "items", "not", "if", "then", "else", "contains", "propertyNames")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_ENDLESS = 2**31
"""Counts of this size cannot be reached by an answer, in characters, elements or names."""
_KNOWN_DIALECTS = re.compile(r"https?://json-schema\.org/")
_KEYS = re.compile(r"Unimplemented keys: (\[.*\])")
_FORMAT = re.compile(r"Unknown format: (.*?)(?: \(\d+ times\))?$")
_NAME_COUNTS = ("minProperties", "maxProperties")
_UNCOUNTED = "min/maxProperties only supported"
"""Some named properties are optional: llguidance would count the others only."""
_OVERLAP = "are not disjoint"
"""Two patterns match the same name."""
_MAX_NAMES = 8
_MAX_TESTED = 512
"""Limit of distinct patterns and bounds of one schema that are tested one by one, at about 0.3 ms each."""


class Relaxed(msgspec.Struct, frozen=True):
    """A relaxed schema."""

    schema: dict[str, Any]
    passed_over: tuple[str, ...]
    """JSON pointers into the original schema of what is not enforced."""


def relax(schema: dict[str, Any]) -> Relaxed:
    """The enforceable part of `schema`. An invalid JSON Schema is returned with its fault.

    Raises ValueError: too many parts would have to be tested, or a number is not allowed by JSON Schema.
    """
    given, schema = schema, whole_counts(json.loads(json.dumps(schema)))
    # First, because some numbers abort the process when they reach llguidance.
    removed = [f"#{where}" for where in drop_numbers(schema)]
    if not _fault(schema):
        return Relaxed(schema, _in_order(removed, given))
    relaxer = _Relaxer(_ids(schema), removed)
    left = relaxer.relaxed(schema, "#")
    error, warnings = _looked_at(left)
    # What is wrong only where several schemas apply to one object.
    if _OVERLAP in error:
        relaxer.drop_everywhere(left, "patternProperties", "additionalProperties")
        warnings = _looked_at(left)[1]
    if any(_UNCOUNTED in warning for warning in warnings):
        for name in _NAME_COUNTS:
            relaxer.drop_everywhere(left, name)
        warnings = _looked_at(left)[1]
    for warning in warnings:
        removed += _named(warning, left)
    return Relaxed(left, _in_order(removed, given))


def strict_fault(schema: Any) -> str:
    """Why a schema cannot be enforced completely, with the JSON pointers; "" if it can."""
    schema = whole_counts(schema)
    try:
        numbers = list(number_faults(schema))
    except ValueError as error:
        return str(error)
    places = tuple(dict.fromkeys([f"#{number.where}" for number in numbers]))
    # A schema with such numbers must not reach llguidance.
    fault = numbers[0].why if numbers else _fault(schema)
    with suppress(ValueError):
        places = relax(schema).passed_over if fault and isinstance(schema, dict) else places
    return f"{list_places(places)} cannot be enforced: {fault}" if places else fault


def whole_counts(schema: Any) -> Any:
    """A copy with counts as llguidance reads them: 5.0 becomes 5, and maxima beyond any text are removed."""
    if not isinstance(schema, dict):
        return schema
    left = dict(schema)
    for name in _COUNTS:
        value = left.get(name)
        if isinstance(value, float) and value.is_integer():
            value = left[name] = int(value)
        if name.startswith("max") and type(value) is int and value >= _ENDLESS:
            del left[name]
    for _, part, replace in list(_parts(left)):
        replace(whole_counts(part))
    return left


def rust_patterns(schema: Any) -> Any:
    """A copy with regular expressions as llguidance has to get them."""
    if not isinstance(schema, dict):
        return schema
    left = dict(schema)
    if isinstance(pattern := left.get("pattern"), str):
        left["pattern"] = rust_pattern(pattern)
    if isinstance(patterns := left.get("patternProperties"), dict):
        named = {rust_pattern(name): part for name, part in patterns.items()}
        left["patternProperties"] = named if len(named) == len(patterns) else patterns
    for _, part, replace in list(_parts(left)):
        replace(rust_patterns(part))
    return left


def list_places(passed_over: tuple[str, ...]) -> str:
    """The list for a message: the first few pointers, and how many more there are."""
    shown = ", ".join(passed_over[:_MAX_NAMES])
    return f"{shown} and {len(passed_over) - _MAX_NAMES} more" if len(passed_over) > _MAX_NAMES else shown


class _Relaxer:
    """Relaxes one schema. Each distinct pattern or bound is tested once."""

    def __init__(self, ids: frozenset[str], removed: list[str]) -> None:
        """`ids`: what references may name. The pointers of removed parts are appended to `removed`."""
        self._ids = ids
        self._removed = removed
        self._faults: dict[str, str] = {}

    def relaxed(self, schema: Any, where: str) -> Any:
        """The schema without what cannot be enforced."""
        if not isinstance(schema, dict):
            return schema
        left = dict(schema)

        def drop(*names: str) -> None:
            for name in names:
                if left.pop(name, None) is not None:
                    self._removed.append(f"{where}/{escaped(name)}")

        dialect = left.get("$schema")
        if isinstance(dialect, str) and not _KNOWN_DIALECTS.match(dialect):
            drop("$schema")
        target = left.get("$ref")
        if isinstance(target, str) and not target.startswith("#") and target.partition("#")[0] not in self._ids:
            drop("$ref")
        pattern = left.get("pattern")
        if isinstance(pattern, str) and not self._is_pattern(pattern):
            drop("pattern")
        patterns = left.get("patternProperties")
        if isinstance(patterns, dict) and (bad := self._bad_patterns(list(patterns))):
            self._removed += [f"{where}/patternProperties/{escaped(name)}" for name in bad]
            left["patternProperties"] = {name: part for name, part in patterns.items() if name not in bad}
            # Names matched by the removed patterns can no longer be distinguished from additional ones.
            drop("additionalProperties")
        self._relax_bounds(left, drop)
        if not self._counts_names(left):
            drop(*_NAME_COUNTS)
        for path, part, replace in list(_parts(left)):
            replace(self.relaxed(part, f"{where}/{path}"))
        return left

    def _relax_bounds(self, schema: dict[str, Any], drop: Callable[..., None]) -> None:
        # A factor that JSON Schema does not allow is an error in the schema, so it is not removed.
        given = {name: schema[name] for name in BOUNDS if is_number(schema.get(name))}
        bounds = {name: value for name, value in given.items() if name != "multipleOf" or value > 0}
        kind = "integer" if schema.get("type") == "integer" else "number"
        if bounds and not self._is_good({"type": kind, **bounds}):
            bad = [name for name, value in bounds.items() if not self._is_good({"type": kind, name: value})]
            drop(*(bad or bounds))

    def drop_everywhere(self, schema: dict[str, Any], name: str, *beside: str) -> None:
        """Remove a keyword, and those beside it, from `schema`, which `relaxed` returned, and all schemas within it."""
        for path, part in list(_all("#", schema)):
            for each in (name, *beside) if name in part else ():
                if part.pop(each, None) is not None:
                    self._removed.append(f"{path}/{each}")

    def _is_pattern(self, pattern: str) -> bool:
        return self._is_good({"type": "string", "pattern": pattern})

    def _bad_patterns(self, patterns: list[str]) -> list[str]:
        """Those of names that are not supported, or match names that one before them matches."""
        known = [pattern for pattern in patterns if self._is_pattern(pattern)]
        good = known
        if self._overlap(known):
            good = []
            for pattern in known:
                if not any(self._overlap([other, pattern]) for other in good):
                    good.append(pattern)
        return [pattern for pattern in patterns if pattern not in good]

    def _overlap(self, patterns: list[str]) -> bool:
        schema = {"type": "object", "patternProperties": {pattern: {} for pattern in patterns}}
        return len(patterns) > 1 and _OVERLAP in self._fault_of(schema)

    def _counts_names(self, schema: dict[str, Any]) -> bool:
        """Whether the limits of the number of an object's properties count all of them."""
        counts = {name: schema[name] for name in _NAME_COUNTS if name in schema}
        named: dict[str, Any] = schema.get("properties", {})
        if not counts or not isinstance(named, dict):
            return True
        rest: dict[str, Any] = {name: schema[name] for name in ("required", "additionalProperties") if name in schema}
        if isinstance(rest.get("additionalProperties"), dict):
            del rest["additionalProperties"]
        properties: dict[str, Any] = {name: {} for name in named}
        return _UNCOUNTED not in self._fault_of({"type": "object", "properties": properties, **rest, **counts})

    def _is_good(self, schema: dict[str, Any]) -> bool:
        """Whether llguidance supports `schema`. One that it reports as unsatisfiable is supported."""
        fault = self._fault_of(schema)
        return not fault or "nsatisfiable" in fault

    def _fault_of(self, schema: dict[str, Any]) -> str:
        question = json.dumps(schema)
        if question not in self._faults:
            if len(self._faults) >= _MAX_TESTED:
                raise ValueError(f"more than {_MAX_TESTED} different patterns and bounds beside what is not known")
            self._faults[question] = _fault(schema)
        return self._faults[question]


def _parts(schema: dict[str, Any]) -> Iterator[tuple[str, Any, Callable[[Any], None]]]:
    """Each direct subschema: its path, itself, and a function that replaces it."""
    for name in _BY_NAME:
        by_name = schema.get(name)
        if isinstance(by_name, dict):
            by_name = schema[name] = dict(by_name)
            for entry in by_name:
                yield f"{escaped(name)}/{escaped(entry)}", by_name[entry], _setter(by_name, entry)
    for name in _LISTS:
        many = schema.get(name)
        if isinstance(many, list):
            many = schema[name] = list(many)
            for index, entry in enumerate(many):
                yield f"{name}/{index}", entry, _setter(many, index)
    for name in _SINGLE:
        if isinstance(schema.get(name), dict):
            yield name, schema[name], _setter(schema, name)


def _setter(container: Any, key: Any) -> Callable[[Any], None]:
    def put(value: Any) -> None:
        container[key] = value

    return put


def _named(warning: str, schema: Any) -> list[str]:
    """JSON pointers of what llguidance's warning says it ignores; the warning itself if none is recognized."""
    if match := _KEYS.search(warning):
        names = set(msgspec.json.decode(match[1]))
        places = [f"{path}/{escaped(name)}" for path, part in _all("#", schema) for name in part if name in names]
    elif match := _FORMAT.search(warning):
        places = [f"{path}/format" for path, part in _all("#", schema) if part.get("format") == match[1]]
    elif "oneOf" in warning:
        places = [f"{path}/oneOf" for path, part in _all("#", schema) if "oneOf" in part]
    else:
        places = []
    return places or [" ".join(warning.split())]


def _all(where: str, schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        yield where, schema
        for path, part, _ in list(_parts(dict(schema))):
            yield from _all(f"{where}/{path}", part)


def _ids(schema: Any) -> frozenset[str]:
    """The ids by which parts of the schema can be referenced."""
    return frozenset(part["$id"] for _, part in _all("#", schema) if isinstance(part.get("$id"), str))


def _in_order(places: list[str], schema: Any) -> tuple[str, ...]:
    """Without duplicates, in document order; entries that are no pointers come last."""
    wanted = dict.fromkeys(places)
    ordered = [where for where in _places("#", schema) if where in wanted] if wanted else []
    return tuple(dict.fromkeys([*ordered, *wanted]))


def _places(where: str, value: Any) -> Iterator[str]:
    yield where
    parts = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for name, item in parts:
        yield from _places(f"{where}/{escaped(str(name))}", item)


def _fault(schema: Any) -> str:
    try:
        return " ".join(LLMatcher.validate_grammar(_guidance(schema, lenient=False)).split())
    except ValueError as error:
        return str(error)


def _looked_at(schema: Any) -> tuple[str, list[str]]:
    """What llguidance says to a schema whose unknown parts it may ignore: an error or "", and warnings."""
    try:
        is_error, messages = LLMatcher.validate_grammar_with_warnings(_guidance(schema, lenient=True))
    except ValueError:
        # Nested too deeply; compiling the schema reports it.
        return "", []
    return (" ".join(messages), []) if is_error else ("", messages)


def _guidance(schema: Any, *, lenient: bool) -> str:
    return LLMatcher.grammar_from_json_schema(json.dumps(rust_patterns(schema)), overrides={"lenient": lenient})
