"""Values of fields that change nothing, as a check and as JSON Schema, both made of the same constants."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import msgspec.inspect

Schema = Mapping[str, Any]
_READ_AS = "read_as"


class Neutral(NamedTuple):
    """Which values of a field are accepted."""

    accepts: Callable[[Any], bool]
    schema: Schema
    """The same for the API's description."""

    def __call__(self, value: Any) -> bool:
        return self.accepts(value)


def any_of(*values: object) -> Neutral:
    """Only these values, with their types."""
    once = [value for at, value in enumerate(values) if value not in values[:at]]
    return Neutral(
        lambda value: any(value == each and type(value) is type(each) for each in values), one_of_values(once)
    )


def one_of_values(values: Sequence[object]) -> Schema:
    """The schema of any of these values, in words that generators of clients know: `enum` for texts only."""
    texts = [value for value in values if isinstance(value, str)]
    kinds: list[Schema] = [{"type": "string", "enum": texts}] if texts else []
    kinds += [_of_value(value) for value in values if not isinstance(value, str)]
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def _of_value(value: object) -> Schema:
    match value:
        case None:
            return {"type": "null"}
        case bool():
            return {"type": "boolean", "const": value}
        case int():
            return {"type": "integer", "const": value}
        case list():
            parts = {"prefixItems": [one_of_values([each]) for each in value]} if value else {}
            return {"type": "array", "minItems": len(value), "maxItems": len(value), **parts}
        case dict():
            return {
                "type": "object",
                "properties": {name: one_of_values([each]) for name, each in value.items()},
                "required": list(value),
                "additionalProperties": False,
            }
    raise TypeError(value)


EMPTY = any_of([], {}, "")
TEXT = Neutral(lambda value: isinstance(value, str), {"type": "string"})
OBJECT = Neutral(lambda value: isinstance(value, dict), {"type": "object"})
LIST = Neutral(lambda value: isinstance(value, list), {"type": "array"})
INTEGER = Neutral(lambda value: type(value) is int, {"type": "integer"})
NOTHING = Neutral(lambda _: False, {"type": "null"})
"""Every value is refused but `null`, which counts as absent."""


def either(first: Neutral, second: Neutral) -> Neutral:
    """What one of the two accepts."""
    return Neutral(lambda value: first(value) or second(value), {"anyOf": [first.schema, second.schema]})


def field_schemas(neutral: Mapping[str, Neutral], others: Mapping[str, Neutral] | None = None) -> Mapping[str, Schema]:
    """What may be in each field; `null` counts as absent. `others`: further values, which upstreams may support."""
    more = others or {}
    return {
        name: {
            "anyOf": [
                each.schema,
                *([more[name].schema] if name in more else []),
                {"type": "null"},
            ]
        }
        for name, each in neutral.items()
    }


def read_as(kind: type[msgspec.Struct]) -> msgspec.Meta:
    """Says of a field that its value, decoded as any, is converted to `kind` later, where an error can name its place.

    `null` counts as absent.
    """
    return msgspec.Meta(extra={_READ_AS: kind})


def read_as_of(field: msgspec.inspect.Type) -> type[msgspec.Struct] | None:
    """What `read_as` says of a field of this type, if it says something."""
    extra = field.extra if isinstance(field, msgspec.inspect.Metadata) else None
    return None if extra is None else extra.get(_READ_AS)


def field_schema(**keywords: Any) -> msgspec.Meta:
    """What the API's description says of a field beyond its type. The reader of the body checks the same."""
    return msgspec.Meta(extra_json_schema=keywords)
