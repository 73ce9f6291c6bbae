"""Generates the JSON Schema of the TOML file, for completion and checks in editors.

`penstock policy check` refuses everything that the schema refuses; relations between keys (references, reachability,
consistency) are checked only by `config.check`. Draft 2020-12, limited to what taplo (Even Better TOML) supports.
"""

import ast
import inspect
import textwrap
from collections.abc import Mapping
from pathlib import Path

import msgspec
import msgspec.inspect

from config.model.bounds import bound_of, may_be_auto, plain, required
from config.model.conditions import LoadCondition, SignalSettings, TimeCondition
from config.model.expectations import ExpectedDecision, GivenRequest
from config.model.rollout import ExperimentSettings, ShadowSettings
from config.model.routing import TARGETS, CascadeSettings, RouteSettings, RungSettings, Target, Use
from config.model.settings import Settings
from config.model.table import Bytes, ClockTime, Moment, Range, Seconds, Table
from config.model.tenancy import KEY_ID, KeySettings
from config.model.units import NOTATIONS
from config.model.upstreams import SecretSource, UpstreamSettings
from config.model.words import ADDRESSES, LANGUAGES, REASON_CODES
from config.parse.decode import file_fields

Schema = dict[str, object]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_UNBOUNDED = 1e300
"""Bounds beyond it only exclude NaN and infinity, and are left out."""

# What does not follow from the types: allowed names, required combinations and examples. `config.check` checks the same
# with better messages.
_ONE_KEY: Schema = {"minProperties": 1, "maxProperties": 1}
_NAME: Schema = {"pattern": r"\S"}
_HEADERS: Schema = {"propertyNames": {"pattern": r"^[!#$%&'*+.^_`|~0-9a-z-]+$"}}
_SOME: Schema = {"minItems": 1}

_SCALARS: Mapping[type, str] = {
    msgspec.inspect.BoolType: "boolean",
    msgspec.inspect.IntType: "integer",
    msgspec.inspect.FloatType: "number",
    msgspec.inspect.StrType: "string",
}
_EXAMPLES: Mapping[type, list[str]] = {
    Seconds: ["500ms", "2s", "10m", "1d"],
    Bytes: ["512KiB", "64MiB", "2GiB"],
    ClockTime: ["08:00", "22:30"],
    Moment: ["2027-01-31T00:00:00Z"],
}

_TABLES: Mapping[type, Schema] = {
    Use: _ONE_KEY,
    Target: {"oneOf": [{"required": [word]} for word in TARGETS]},
    SecretSource: _ONE_KEY,
    Range: {"minProperties": 1, "examples": [{"at_least": 4000}, {"at_least": 0.2, "below": 0.7}]},
    RungSettings: {"oneOf": [{"required": ["to"]}, {"required": ["answer"]}, {"required": ["ladder"]}]},
    LoadCondition: {"minProperties": 2},
    ExpectedDecision: {"minProperties": 1},
}

_FIELDS: Mapping[type, Mapping[str, Schema]] = {
    Settings: {
        "models": {"minProperties": 1},
        "tiers": {"minProperties": 1},
        "routes": _SOME,
        "ladders": {"additionalProperties": _SOME},
    },
    SignalSettings: {
        "tag": {"items": {"pattern": r"^[^\s,]([^,]*[^\s,])?$"}},
        "header": {**_HEADERS, "additionalProperties": _SOME},
        "path": {"items": {"enum": list(ADDRESSES)}},
        "language": {"items": {"enum": list(LANGUAGES)}},
    },
    TimeCondition: {"zone": {"examples": ["UTC", "Europe/Berlin", "America/New_York"]}},
    RouteSettings: {"name": {**_NAME, "examples": ["support-chat"]}, "owner": {"examples": ["team-support"]}},
    CascadeSettings: {"stages": {"minItems": 2, "maxItems": 2, "uniqueItems": True}},
    RungSettings: {"answer": {**_NAME, "examples": ["All models are busy. Please try again in a moment."]}},
    UpstreamSettings: {
        "urls": {**_SOME, "items": {"pattern": "^[hH][tT][tT][pP][sS]?://", "examples": ["https://vllm-a.example/v1"]}}
    },
    SecretSource: {"env": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "examples": ["CLOUD_KEY"]}},
    KeySettings: {"id": {"pattern": f"^{KEY_ID.pattern}$"}, "hash": {"pattern": "^[0-9a-f]{64}$"}},
    ExperimentSettings: {
        "name": _NAME,
        "route": _SOME,
        "arms": {
            "required": ["control"],
            "minProperties": 2,
            "additionalProperties": {"exclusiveMinimum": 0, "maximum": 100},
            "examples": [{"control": 95, "cheaper": 5}],
        },
        "override": {"examples": [{"cheaper": {"cascades.thrifty.target.large_share": 0.15}}]},
    },
    ShadowSettings: {"name": _NAME, "route": _SOME},
    GivenRequest: {
        "header": _HEADERS,
        "path": {"enum": list(ADDRESSES)},
        "language": {"enum": list(LANGUAGES)},
        "time": {"examples": ["2026-11-21T22:30:00+01:00"]},
    },
    ExpectedDecision: {"why": {"enum": list(REASON_CODES)}},
}


def settings_schema(*, part: bool = False) -> Schema:
    """The schema of a whole configuration, or with `part` of one file in a folder, where no table is required."""
    schema = file_schema(Settings, "A part of a Penstock configuration" if part else "A Penstock configuration")
    if part:
        schema["required"] = ["schema"]
    return schema


def file_schema(table: type[Table], title: str) -> Schema:
    """The schema of a TOML file with the keys of this table."""
    tables: dict[str, Schema] = {}
    _of(msgspec.inspect.type_info(table), tables)
    root = tables.pop(table.__name__)
    return {"$schema": _DIALECT, **root, "title": title, "$defs": dict(sorted(tables.items()))}


def _of(info: msgspec.inspect.Type, tables: dict[str, Schema]) -> Schema:
    match info:
        case msgspec.inspect.StructType(cls=cls):
            name = cls.__name__
            if name not in tables:
                tables[name] = {}  # a table may contain itself
                tables[name] = _table(info, tables)
            return {"$ref": f"#/$defs/{name}"}
        case msgspec.inspect.DictType(value_type=inner):
            return {"type": "object", "propertyNames": _NAME, "additionalProperties": _of(inner, tables)}
        case msgspec.inspect.VarTupleType(item_type=inner):
            return {"type": "array", "items": _of(inner, tables)}
        case msgspec.inspect.UnionType():
            return _of(required(info), tables)
        case msgspec.inspect.Metadata(type=inner):
            return _of(inner, tables)
        case msgspec.inspect.LiteralType(values=values):
            return {"enum": list(values)}
        case msgspec.inspect.CustomType(cls=cls):
            if cls is Path:
                return {"type": "string", "minLength": 1}
            return {"type": "string", "pattern": NOTATIONS[cls].pattern, "examples": _EXAMPLES[cls]}
        case msgspec.inspect.AnyType():
            return {}
    return {"type": _SCALARS[type(info)]}


def _table(info: msgspec.inspect.StructType, tables: dict[str, Schema]) -> Schema:
    docs = _field_docs(info.cls)
    extras = _FIELDS.get(info.cls, {})
    properties: dict[str, Schema] = {}
    for field in file_fields(info):
        schema = _of(field.type, tables) | _bounds(field.type)
        if may_be_auto(field.type):
            schema = {"anyOf": [{"const": "auto"}, schema], "default": "auto"}
        if field.name in docs:
            schema["description"] = docs[field.name]
        if "default" not in schema and not field.required and field.default is not msgspec.NODEFAULT:
            default = _written(field.default)
            if default is not None:
                schema["default"] = default
        properties[field.encode_name] = _merged(schema, extras.get(field.name, {}))
    required = [field.encode_name for field in file_fields(info) if field.required]
    return {
        "type": "object",
        "description": inspect.getdoc(info.cls) or "",
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
        **_TABLES.get(info.cls, {}),
    }


def _field_docs(cls: type) -> dict[str, str]:
    """The docstrings of the fields, each on one line, from the source, since Python does not keep them."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except OSError:
        return {}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    docs: dict[str, str] = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = " ".join(text.split())
    return docs


def _bounds(info: msgspec.inspect.Type) -> Schema:
    bound = bound_of(info)
    if bound is None or not isinstance(plain(info), msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return {}
    schema: Schema = {}
    if bound.low is not None and bound.low > -_UNBOUNDED:
        schema["exclusiveMinimum" if bound.above else "minimum"] = bound.low
    if bound.high is not None and bound.high < _UNBOUNDED:
        schema["maximum"] = bound.high
    if bound.multiple_of is not None:
        schema["multipleOf"] = bound.multiple_of
    return schema


def _written(value: object) -> object:
    """A default in TOML's types; None if it can only be written by leaving the key out."""
    match value:
        case Seconds() | Bytes() | ClockTime() | Moment():
            return NOTATIONS[type(value)].write(value)
        case Path():
            return str(value)
        case tuple() if all(isinstance(member, str) for member in value):
            return list(value)
        case bool() | int() | float() | str():
            return value
    return None


def _merged(schema: Schema, extra: Schema) -> Schema:
    """Both schemas; the schemas of members are merged recursively, for other keywords `extra` takes precedence."""
    merged = {**schema, **extra}
    for keyword in ("items", "additionalProperties", "propertyNames"):
        inner, more = schema.get(keyword), extra.get(keyword)
        if isinstance(inner, dict) and isinstance(more, dict):
            merged[keyword] = _merged(inner, more)
    return merged
