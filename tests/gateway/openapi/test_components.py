"""Schemas of types: names, docstrings, objects that are told apart by their type."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from gateway.openai.requests.neutral import any_of, field_schemas, read_as
from gateway.openapi.components import Components
from gateway.openapi.operation import OneOf, Parts


class Base(msgspec.Struct, kw_only=True):
    """A base."""

    first: int
    """Said of the
    first."""


class _Inner(msgspec.Struct):
    """Inside."""

    path: Path


class Whole(Base, forbid_unknown_fields=True, kw_only=True):
    """The whole."""

    forwarded = field_schemas({"quiet": any_of(False), "second": any_of("a")})
    second: str | None = None
    quiet: Any = None
    inner: list[_Inner] = []
    pair: tuple[int, str] = (1, "a")
    things: str | list[dict[str, Any]] | None = None


class Round(msgspec.Struct, forbid_unknown_fields=True):
    """A thing."""

    type: str
    radius: int


class Square(msgspec.Struct, forbid_unknown_fields=True):
    """Another thing."""

    side: int
    type: str = "square"


PARTS = Parts(Whole, "things", {"round": Round, "square": Square}, default="square")


@pytest.fixture
def made() -> Components:
    return Components([Whole, OneOf((Round, Square)), {"type": "string"}], [PARTS])


def test_names_and_docstrings(made: Components) -> None:
    assert list(made.schemas) == ["Inner", "Round", "Square", "Whole"]
    whole = made.schemas["Whole"]
    assert whole["description"] == "The whole."
    assert whole["properties"]["first"]["description"] == "Said of the first."
    assert whole["properties"]["inner"]["items"] == {"$ref": "#/components/schemas/Inner"}
    assert made.schemas["Inner"]["properties"]["path"] == {"type": "string"}
    assert "title" not in whole
    # Without "items": false, which says the same and which generators of clients do not read.
    assert whole["properties"]["pair"] == {
        "type": "array",
        "minItems": 2,
        "maxItems": 2,
        "prefixItems": [{"type": "integer"}, {"type": "string"}],
        "default": [1, "a"],
    }


def test_what_is_asked_for(made: Components) -> None:
    assert made.of(Whole) == {"$ref": "#/components/schemas/Whole"}
    assert made.of(OneOf((Round, Square))) == {
        "anyOf": [{"$ref": "#/components/schemas/Round"}, {"$ref": "#/components/schemas/Square"}]
    }
    assert made.of({"type": "string"}) == {"type": "string"}


@pytest.mark.parametrize(
    ("fields", "valid"),
    [
        ({}, True),
        ({"quiet": False, "second": "a"}, True),
        ({"quiet": None, "second": None}, True),
        ({"quiet": True}, False),
        ({"second": "b"}, False),
        ({"other": 1}, False),
        ({"things": "text"}, True),
        ({"things": [{"type": "round", "radius": 1}, {"side": 2}, {"type": "square", "side": 2}]}, True),
        ({"things": [{"type": "round", "side": 1}]}, False),
        ({"things": [{"radius": 1}]}, False),
        ({"things": [{"type": "flat"}]}, False),
    ],
)
def test_what_the_schema_allows(made: Components, fields: dict[str, Any], valid: bool) -> None:
    schema = {**made.of(Whole), "components": {"schemas": made.schemas}}
    assert Draft202012Validator(schema).is_valid({"first": 1, **fields}) == valid


class Corner(msgspec.Struct):
    x: int
    inner: Annotated[Any, read_as(_Inner)] = None


class Shape(msgspec.Struct):
    """A shape."""

    corners: list[Corner]


def test_a_field_that_is_converted_later_has_the_schema_of_its_type() -> None:
    """Also where only such a field names that type."""
    made = Components([Shape])
    assert list(made.schemas) == ["Corner", "Inner", "Shape"]
    inner = made.schemas["Corner"]["properties"]["inner"]
    assert inner == {"default": None, "anyOf": [{"$ref": "#/components/schemas/Inner"}, {"type": "null"}]}
    validator = Draft202012Validator({**made.of(Shape), "components": {"schemas": made.schemas}})
    assert validator.is_valid({"corners": [{"x": 1, "inner": {"path": "a"}}, {"x": 1, "inner": None}]})
    assert not validator.is_valid({"corners": [{"x": 1, "inner": {"path": 1}}]})


def test_a_type_without_a_docstring_has_no_description() -> None:
    assert "description" not in Components([Shape]).schemas["Corner"]
