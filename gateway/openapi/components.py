"""JSON Schemas of types, as components of the document, with the docstrings of their fields."""

import ast
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect

from gateway.openai.requests.neutral import one_of_values, read_as_of
from gateway.openapi.operation import OneOf, Parts, Schema

_REF = "#/components/schemas/"


class Components:
    """The schemas of all types that a document needs."""

    def __init__(self, contents: Iterable[Any], parts: Iterable[Parts] = ()) -> None:
        """`contents`: types and `OneOf`; schemas are passed over. `parts`: of bodies among them."""
        parts = tuple(parts)
        types: dict[Any, None] = {}
        for content in contents:
            types.update(dict.fromkeys(_types_of(content)))
        for part in parts:
            types.update(dict.fromkeys(part.kinds.values()))
        for cls in tuple(_structs(types)):
            types.update(dict.fromkeys(_converted(cls).values()))
        made, components = msgspec.json.schema_components(types, schema_hook=_of_other, ref_template=_REF + "{name}")
        self._by_type: dict[Any, Schema] = dict(zip(types, made, strict=True))
        docs = _FieldDocs()
        for cls in _structs(types):
            _describe(components[cls.__name__], cls, docs)
            for field, kind in _converted(cls).items():
                components[cls.__name__]["properties"][field]["anyOf"] = [self._by_type[kind], {"type": "null"}]
        for part in parts:
            _insert(components[part.owner.__name__]["properties"][part.field], part, self._by_type)
        public = {name.lstrip("_"): _public(schema) for name, schema in components.items()}
        assert len(public) == len(components), "two types have one name"
        self.schemas: dict[str, Any] = dict(sorted(public.items()))
        self._by_type = {cls: _public(schema) for cls, schema in self._by_type.items()}

    def of(self, content: Any) -> Schema:
        """The schema of one of the contents."""
        if isinstance(content, Mapping):
            return content
        if isinstance(content, OneOf):
            return {"anyOf": [self._by_type[each] for each in content.types]}
        return self._by_type[content]


def _types_of(content: Any) -> tuple[Any, ...]:
    if isinstance(content, Mapping):
        return ()
    return content.types if isinstance(content, OneOf) else (content,)


def _of_other(kind: type) -> dict[str, Any]:
    if issubclass(kind, Path):
        return {"type": "string"}
    raise NotImplementedError


def _structs(types: Iterable[Any]) -> Iterator[type[msgspec.Struct]]:
    """All Structs that these types are made of."""
    seen: set[type] = set()
    waiting: list[Any] = list(msgspec.inspect.multi_type_info(types))
    while waiting:
        match waiting.pop():
            case msgspec.inspect.StructType(cls=cls, fields=fields):
                if cls not in seen:
                    seen.add(cls)
                    yield cls
                    waiting += [field.type for field in fields]
                    waiting += msgspec.inspect.multi_type_info(_converted(cls).values())
            case msgspec.inspect.Metadata(type=inner):
                waiting.append(inner)
            case msgspec.inspect.CollectionType(item_type=inner):
                waiting.append(inner)
            case msgspec.inspect.TupleType(item_types=inner):
                waiting += inner
            case msgspec.inspect.DictType(value_type=inner):
                waiting.append(inner)
            case msgspec.inspect.UnionType(types=inner):
                waiting += inner


def _converted(cls: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct]]:
    """By field: as what its value is read later; see `read_as`."""
    info = msgspec.inspect.type_info(cls)
    assert isinstance(info, msgspec.inspect.StructType)
    return {field.encode_name: kind for field in info.fields if (kind := read_as_of(field.type)) is not None}


class _FieldDocs:
    """The docstrings of fields, from the source, since Python does not keep them. Each file is read once."""

    def __init__(self) -> None:
        self._modules: dict[str, dict[str, dict[str, str]]] = {}

    def of(self, cls: type) -> dict[str, str]:
        """Those of base classes, too."""
        docs: dict[str, str] = {}
        for each in reversed(cls.__mro__):
            docs.update(self._of_module(each.__module__).get(each.__name__, {}))
        return docs

    def _of_module(self, name: str) -> dict[str, dict[str, str]]:
        if name not in self._modules:
            path = Path(getattr(sys.modules.get(name), "__file__", None) or "")
            # The base class of all is compiled.
            self._modules[name] = _docs_of(ast.parse(path.read_text())) if path.suffix == ".py" else {}
        return self._modules[name]


def _docs_of(module: ast.Module) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            docs = found[node.name] = {}
            for statement, following in zip(node.body, node.body[1:], strict=False):
                match statement, following:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        docs[name] = " ".join(text.split())
    return found


def _describe(schema: dict[str, Any], cls: type[msgspec.Struct], docs: _FieldDocs) -> None:
    """Add what msgspec does not know: docstrings, and what the fields of `forwarded` may hold."""
    if (said := inspect.getdoc(cls)) != inspect.getdoc(msgspec.Struct):
        schema["description"] = said
    else:
        schema.pop("description", None)
    schema.pop("title", None)
    if not schema["required"]:
        del schema["required"]
    properties, fields = (
        schema["properties"],
        dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True)),
    )
    for name, text in docs.of(cls).items():
        if name in fields:
            properties[fields[name]]["description"] = text
    forwarded = getattr(cls, "forwarded", {})
    if isinstance(forwarded, Mapping):
        for name, also in forwarded.items():
            own = properties[fields[name]]
            properties[fields[name]] = {**own, **also} if own.keys().isdisjoint(also) else {**own, "allOf": [also]}


def _insert(schema: dict[str, Any], part: Parts, by_type: Mapping[Any, Schema]) -> None:
    """Say in a field's schema which objects may be where it has any object."""
    kinds = []
    for kind, cls in part.kinds.items():
        tagged = {**by_type[cls], "properties": {"type": {"const": kind}}}
        kinds.append(tagged if kind == part.default else {**tagged, "required": ["type"]})
    pending: list[Any] = [schema]
    while pending:
        match pending.pop():
            case {"type": "object"} as any_object if "properties" not in any_object:
                any_object["anyOf"] = kinds
            case {"anyOf": options} if options is not kinds:
                pending += options
            case {"items": items}:
                pending.append(items)


def _public(value: Any) -> Any:
    """The same with names of components that do not begin with an underscore, and in words that generators know.

    They take `enum` for texts only, and no list without `items`.
    """
    match value:
        case str():
            return re.sub(rf"^{_REF}_+", _REF, value)
        case list() | tuple():
            return [_public(each) for each in value]
        case {"items": False, **rest}:
            # Beside prefixItems and maxItems it says nothing.
            return _public(rest)
        case {"enum": list(values), **rest} if not all(isinstance(each, str) for each in values):
            # Beside it, types say nothing.
            others = {name: each for name, each in rest.items() if name not in {"anyOf", "type"}}
            return {**_public(others), **_public(one_of_values(values))}
        case {"type": "array"} if value.keys().isdisjoint({"items", "prefixItems"}):
            return {**{name: _public(each) for name, each in value.items()}, "items": {}}
        case dict():
            return {name: _public(each) for name, each in value.items()}
    return value
