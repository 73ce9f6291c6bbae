"""Number keywords of a JSON Schema that llguidance does not enforce exactly.

It computes with doubles, and handles some open intervals wrongly. Some values (a `const` of -2^63) would even abort the
process, so they must not reach it. This behaviour was determined by experiment;
`tests/engine/sampling/test_schema_numbers.py` repeats the experiments, so that changes in the library are noticed.
"""

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, TypeGuard

import msgspec

BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_EXACT = 2**53
"""All integers up to this are exact doubles."""
_BEYOND = "numbers beyond 2^53 cannot be enforced exactly; use smaller ones"
_MAX_SCHEMAS = 20_000
"""Limit of schemas that are combined with others in one check."""
_MAX_NAME_PATTERNS = 128
"""Limit of patterns for names in one schema: llguidance compares every two, which takes 0.3 s for so many."""
_EXACT_TENS = 22
"""Powers of ten up to this exponent are exact doubles, and numbers are parsed as an integer times or over one of them.
"""


class NumberFault(msgspec.Struct, frozen=True):
    """A number keyword that would not be enforced exactly."""

    schema: dict[str, Any]
    """The schema object that contains it."""
    keyword: str
    where: str
    """JSON pointer to it (RFC 6901)."""
    why: str


def number_faults(schema: Any) -> Iterator[NumberFault]:
    """All such keywords of a decoded JSON Schema, which must not be modified during the iteration.

    Raises ValueError: too many schemas refer to each other, or there are too many patterns for names.
    """
    looked_at = patterns = 0
    for where, part in _objects("", schema):
        for keyword in BOUNDS:
            value = part.get(keyword)
            if is_number(value) and (why := _bound_fault(keyword, value)):
                yield NumberFault(part, keyword, f"{where}/{keyword}", why)
        if why := _names_fault(part):
            yield NumberFault(part, "minProperties", f"{where}/minProperties", why)
        for keyword in ("const", "enum"):
            if keyword in part and (why := next(filter(None, map(_value_fault, _numbers(part[keyword]))), "")):
                yield NumberFault(part, keyword, f"{where}/{keyword}", why)
        patterns += len(_names(part.get("patternProperties")))
        if patterns > _MAX_NAME_PATTERNS:
            raise ValueError(f"more than {_MAX_NAME_PATTERNS} patterns for names")
        seen: set[int] = set()
        yield from _gaps(where, _together(part, schema, seen))
        looked_at += len(seen)
        if looked_at > _MAX_SCHEMAS:
            raise ValueError("too many of its schemas refer to each other")


def drop_numbers(schema: Any) -> list[str]:
    """Remove from `schema` every keyword that would not be enforced exactly; returns their JSON pointers.

    Raises ValueError: a `multipleOf` that JSON Schema does not allow, or as `number_faults` does.
    """
    dropped: dict[str, None] = {}
    while faults := list(number_faults(schema)):
        for fault in faults:
            if fault.keyword == "multipleOf" and fault.schema.get("multipleOf", 1) <= 0:
                raise ValueError(f"#{fault.where}: {fault.why}")
            fault.schema.pop(fault.keyword, None)
            dropped[fault.where] = None
    return list(dropped)


def _bound_fault(keyword: str, value: float) -> str:
    if keyword == "multipleOf" and value <= 0:
        return "it must be above 0"
    if abs(value) > _EXACT:
        return _BEYOND
    return _value_fault(value)


def _names_fault(part: dict[str, Any]) -> str:
    """Whether an answer could reach `minProperties` by a name that it repeats: only unnamed properties can repeat."""
    least = part.get("minProperties")
    distinct = len(_list(part.get("required"))) + 1
    closed = part.get("additionalProperties") is False and not _names(part.get("patternProperties"))
    if not is_number(least) or least <= distinct or closed:
        return ""
    return f"an answer may repeat a name; at most {distinct} can be enforced here, one more than the required names"


def _value_fault(value: float) -> str:
    """Whether llguidance parses this number as another one, or writes another one than it parsed."""
    if isinstance(value, int):
        return _BEYOND if abs(value) > _EXACT else ""
    if not math.isfinite(value):
        return "it is too large for a number"
    _, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    mantissa = int("".join(map(str, digits)))
    if mantissa > _EXACT or not isinstance(exponent, int) or abs(exponent) > _EXACT_TENS:
        return "numbers with so many digits cannot be enforced exactly; use fewer digits"
    return ""


def _gaps(where: str, together: tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]) -> Iterator[NumberFault]:
    """Integer exclusive bounds that llguidance admits, because the opposite bound is less than 1 away."""
    always, branches = together
    for group in [always, *([*always, *branch] for branch in branches)]:
        if not all(_allows_fractions(schema) for schema in group):
            continue
        for sign, keyword, others in (
            (1, "exclusiveMinimum", ("maximum", "exclusiveMaximum")),
            (-1, "exclusiveMaximum", ("minimum", "exclusiveMinimum")),
        ):
            ends = [sign * value for schema in group for name in others if is_number(value := schema.get(name))]
            for schema in group:
                bound = schema.get(keyword)
                if not is_number(bound) or bound != int(bound) or sign * bound < 0:
                    continue
                if any(sign * bound <= end < sign * bound + 1 for end in ends):
                    why = (
                        f"the exclusive bound {bound} would be allowed; write the limits as minimum and maximum of "
                        "whole numbers"
                    )
                    yield NumberFault(schema, keyword, f"{where}/{keyword}", why)
                    return


def _together(part: Any, root: Any, seen: set[int]) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """Schemas that apply to the same value: those that always apply, and for each alternative those that then apply."""
    if not isinstance(part, dict) or id(part) in seen:
        return [], []
    seen.add(id(part))
    always: list[dict[str, Any]] = [part]
    branches: list[list[dict[str, Any]]] = []
    target = _target(part.get("$ref"), root)
    for member in [*_list(part.get("allOf")), *([] if target is None else [target])]:
        more, others = _together(member, root, seen)
        always += more
        branches += others
    for name in ("anyOf", "oneOf"):
        for member in _list(part.get(name)):
            more, others = _together(member, root, seen)
            branches += [more, *([*more, *other] for other in others)]
    return always, branches


def _target(reference: Any, root: Any) -> Any:
    """The target of a reference within the document; None if there is none."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    node = root
    for step in reference[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, dict) and name in node:
            node = node[name]
        else:
            return None
    return node


def _objects(where: str, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with its JSON pointer, since a reference can make a schema of any of them."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _objects(f"{where}/{index}", item)
    elif isinstance(value, dict):
        yield where, value
        for key, item in value.items():
            yield from _objects(f"{where}/{escaped(key)}", item)


def escaped(name: str) -> str:
    """RFC 6901, section 3."""
    return name.replace("~", "~0").replace("/", "~1")


def _numbers(value: Any) -> Iterator[float]:
    """All numbers in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif is_number(value):
        yield value


def _allows_fractions(part: dict[str, Any]) -> bool:
    kinds = part.get("type", "number")
    return "number" in kinds if isinstance(kinds, list) else kinds == "number"


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a number; bool is a subclass of int in Python."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _names(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
