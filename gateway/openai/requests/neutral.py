"""Values of fields that change nothing, as a check and as JSON Schema, both made of the same constants."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

Schema = Mapping[str, Any]


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
    return Neutral(lambda value: any(value == each and type(value) is type(each) for each in values), {"enum": once})


EMPTY = Neutral(lambda value: value in ([], {}, ""), {"enum": [[], {}, ""]})
TEXT = Neutral(lambda value: isinstance(value, str), {"type": "string"})
OBJECT = Neutral(lambda value: isinstance(value, dict), {"type": "object"})
LIST = Neutral(lambda value: isinstance(value, list), {"type": "array"})
INTEGER = Neutral(lambda value: type(value) is int, {"type": "integer"})
NOTHING = Neutral(lambda _: False, {"enum": [None]})
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


def field_schema(**keywords: Any) -> msgspec.Meta:
    """What the API's description says of a field beyond its type. The reader of the body checks the same."""
    return msgspec.Meta(extra_json_schema=keywords)
