"""JSON Schema of the TOML file, for editors that complete and check while one types."""

import inspect
from pathlib import Path

import msgspec
import msgspec.inspect

from config.bounds import BOUNDS
from config.decode import told_fields
from config.settings import Settings
from config.table import Bytes, ClockTime, Seconds
from config.units import CLOCK_TIME_PATTERN, DURATION_PATTERN, SIZE_PATTERN

Schema = dict[str, object]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def settings_schema() -> Schema:
    """The schema of the whole file. What spans several keys (names, reach) is left to `config.check`."""
    tables: dict[str, Schema] = {}
    root = _of(msgspec.inspect.type_info(Settings), tables)
    return {"$schema": _DIALECT, "title": "Penstock", **root, "$defs": dict(sorted(tables.items()))}


def _of(info: msgspec.inspect.Type, tables: dict[str, Schema]) -> Schema:
    match info:
        case msgspec.inspect.StructType(cls=cls):
            name = cls.__name__
            if name not in tables:
                tables[name] = {}  # a table may hold itself
                tables[name] = _table(info, tables)
            return {"$ref": f"#/$defs/{name}"}
        case msgspec.inspect.DictType(value_type=inner):
            return {"type": "object", "additionalProperties": _of(inner, tables)}
        case msgspec.inspect.VarTupleType(item_type=inner):
            return {"type": "array", "items": _of(inner, tables)}
        case msgspec.inspect.UnionType(types=types):
            (inner,) = (kind for kind in types if not isinstance(kind, msgspec.inspect.NoneType))
            return _of(inner, tables)
        case msgspec.inspect.LiteralType(values=values):
            return {"enum": list(values)}
        case msgspec.inspect.CustomType(cls=cls):
            if cls is Path:
                return {"type": "string"}
            patterns = {Seconds: DURATION_PATTERN, Bytes: SIZE_PATTERN, ClockTime: CLOCK_TIME_PATTERN}
            return {"type": "string", "pattern": patterns[cls]}
        case msgspec.inspect.AnyType():
            return {}
        case msgspec.inspect.BoolType():
            return {"type": "boolean"}
        case msgspec.inspect.IntType():
            return {"type": "integer"}
        case msgspec.inspect.FloatType():
            return {"type": "number"}
    return {"type": "string"}


def _table(info: msgspec.inspect.StructType, tables: dict[str, Schema]) -> Schema:
    bounds = BOUNDS.get(info.cls, {})
    properties: dict[str, Schema] = {}
    for field in told_fields(info):
        schema = dict(_of(field.type, tables))
        if schema.get("type") in {"integer", "number"} and field.name in bounds:
            bound = bounds[field.name]
            if bound.low is not None and bound.low > -1e300:
                schema["exclusiveMinimum" if bound.above else "minimum"] = bound.low
            if bound.high is not None and bound.high < 1e300:
                schema["maximum"] = bound.high
        properties[field.encode_name] = schema
    return {
        "type": "object",
        "description": inspect.getdoc(info.cls) or "",
        "properties": properties,
        "required": [field.encode_name for field in told_fields(info) if field.required],
        "additionalProperties": False,
    }
