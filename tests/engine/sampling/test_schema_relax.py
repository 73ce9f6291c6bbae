"""What becomes of schemas that llguidance cannot enforce as a whole: a table of kinds, and what generators write."""

import copy
import json
from typing import Any

import pytest

from engine.errors import RequestRefused
from engine.sampling.grammar import Grammar, Grammars
from engine.sampling.schema_relax import relax, strict_fault, told
from engine.text.tool_calls import Tool, ToolSet, calls_grammar
from tests.engine.tiny_tokenizers import byte_level_tokenizer

TOKENIZER = byte_level_tokenizer()
GRAMMARS = Grammars(TOKENIZER)


def of(schema: object) -> dict[str, Any]:
    """An object with one property of this schema, and another that must be an integer: the rest to be enforced."""
    return {
        "type": "object",
        "properties": {"a": schema, "n": {"type": "integer"}},
        "required": ["a", "n"],
        "additionalProperties": False,
    }


def compiled(schema: object, *, lenient: bool) -> Any:
    return GRAMMARS.compile(Grammar("json_schema", json.dumps(schema), lenient=lenient, param="schema"))


def takes(grammar: Any, text: str) -> bool:
    state = grammar.start()
    state.advance(TOKENIZER.encode(text))
    return state.error is None


EMAIL = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
"""zod's `z.string().email()`."""
INT64 = {"minimum": -(2**63), "maximum": 2**63 - 1}
FLOAT64 = {"minimum": -1.7976931348623157e308, "maximum": 1.7976931348623157e308}
A = "#/properties/a/"
PASSED_OVER: list[tuple[str, Any, list[str], str]] = [
    # kind, the property's schema, what is passed over, a value that is allowed then
    ("look-ahead", {"type": "string", "pattern": r"^(?!\.)[a-z]+$"}, ["pattern"], '"x.y"'),
    ("look-behind", {"type": "string", "pattern": r"(?<=a)b"}, ["pattern"], '"x"'),
    ("back-reference", {"type": "string", "pattern": r"(a)\1"}, ["pattern"], '"x"'),
    ("no regex", {"type": "string", "pattern": "("}, ["pattern"], '"x"'),
    ("zod's e-mail", {"type": "string", "format": "email", "pattern": EMAIL}, ["pattern"], '"a@b.de"'),
    ("int64", {"type": "integer", **INT64}, ["minimum", "maximum"], "7"),
    ("uint64", {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}, ["maximum"], "7"),
    ("float64", {"type": "number", **FLOAT64}, ["minimum", "maximum"], "7.5"),
    ("exclusive", {"type": "integer", "exclusiveMaximum": 2**63}, ["exclusiveMaximum"], "7"),
    ("not", {"type": "string", "not": {"const": "x"}}, ["not"], '"x"'),
    ("if", {"type": "integer", "if": {"minimum": 3}, "then": {"maximum": 5}}, ["if", "then"], "9"),
    ("property names", {"type": "object", "propertyNames": {"pattern": "^a$"}}, ["propertyNames"], '{"b": 1}'),
    ("dependent", {"type": "object", "dependentRequired": {"a": ["b"]}}, ["dependentRequired"], '{"a": 1}'),
    ("dependencies", {"type": "object", "dependencies": {"a": ["b"]}}, ["dependencies"], '{"a": 1}'),
    ("dependent schemas", {"type": "object", "dependentSchemas": {"a": {}}}, ["dependentSchemas"], "{}"),
    ("unevaluated", {"type": "object", "unevaluatedProperties": False}, ["unevaluatedProperties"], '{"b": 1}'),
    ("contains", {"type": "array", "contains": {"const": 1}}, ["contains"], "[2]"),
    ("unique", {"type": "array", "uniqueItems": True}, ["uniqueItems"], "[2, 2]"),
    ("format", {"type": "string", "format": "cuid2"}, ["format"], '"x"'),
    ("another document", {"$ref": "https://example.com/x.json"}, ["$ref"], "[null]"),
    ("a file", {"$ref": "x.json#/a"}, ["$ref"], "[null]"),
    ("a name's pattern", {"type": "object", "patternProperties": {"^(?!x)": {"type": "integer"}}},
     ["patternProperties/^(?!x)"], '{"b": "s"}'),
    ("a closed object's names", {
        "type": "object", "patternProperties": {"^(?!x)": {}, "^y": {"type": "integer"}}, "additionalProperties": False,
     }, ["patternProperties/^(?!x)", "additionalProperties"], '{"b": 1, "y": 2}'),
    ("one of several that overlap", {"oneOf": [{"type": "number"}, {"type": "integer"}]}, ["oneOf"], "3"),
    ("deep", {"type": "array", "items": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "(?!a)b"}]}},
     ["items/anyOf/1/pattern"], '[null, "x"]'),
    ("in a tuple", {"type": "array", "prefixItems": [{"type": "string", "pattern": "(?=a)"}]},
     ["prefixItems/0/pattern"], '["x"]'),
    ("a name with a slash", {"type": "object", "properties": {"x/y~": {"type": "string", "pattern": "(?=a)"}}},
     ["properties/x~1y~0/pattern"], '{"x/y~": "q"}'),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "schema", "places", "value"), PASSED_OVER, ids=[each[0] for each in PASSED_OVER])
def test_what_nobody_insists_on_is_passed_over_and_the_rest_enforced(
    kind: str, schema: Any, places: list[str], value: str
) -> None:
    grammar = compiled(of(schema), lenient=True)
    assert sorted(grammar.passed_over) == sorted(f"schema{A}{place}" for place in places)
    assert takes(grammar, f'{{"a": {value}, "n": 1}}')
    # The property beside it, and the object as such, are bound as before.
    assert not takes(grammar, f'{{"a": {value}, "n": "x"')
    assert not takes(grammar, f'{{"a": {value}, "other"')


@pytest.mark.parametrize(("kind", "schema", "places", "value"), PASSED_OVER, ids=[each[0] for each in PASSED_OVER])
def test_who_insists_is_refused_with_the_place(kind: str, schema: Any, places: list[str], value: str) -> None:
    if kind in {"uint64", "exclusive"}:
        # llguidance takes such a bound alone.
        return
    with pytest.raises(RequestRefused) as refused:
        compiled(of(schema), lenient=False)
    assert all(f"{A}{place}" in refused.value.message for place in places)
    assert "cannot be enforced" in refused.value.message


WHOLE: list[tuple[str, Any]] = [
    ("pattern", of({"type": "string", "pattern": "^[a-z]+$"})),
    ("safe integers", of({"type": "integer", "minimum": -(2**53), "maximum": 2**53})),
    ("defs", {"$defs": {"x": {"type": "string"}}, **of({"$ref": "#/$defs/x"})}),
    ("draft 7", {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"x": {}},
                 **of({"$ref": "#/definitions/x"})}),
    ("recursive", of({"anyOf": [{"type": "null"}, {"$ref": "#"}]})),
    ("an id of its own", {"$defs": {"x": {"$id": "https://e.com/x", "type": "string"}},
                          **of({"$ref": "https://e.com/x"})}),
    ("an anchor", {"$defs": {"x": {"$anchor": "me", "type": "string"}}, **of({"$ref": "#me"})}),
    ("known formats", of({"type": "string", "format": "date-time"})),
    ("prefixItems", of({"type": "array", "prefixItems": [{"type": "string"}], "items": False})),
    ("boolean parts", of(True)),
    ("empty", of({})),
    ("annotations", of({"type": "string", "title": "t", "description": "d", "default": "x", "examples": ["y"]})),
    ("many values", of({"enum": [f"value{number}" for number in range(2000)]})),
    ("distinct alternatives", of({"oneOf": [{"type": "integer"}, {"type": "string"}]})),
    ("what nothing satisfies", {"properties": {"a": {"type": "integer", "minimum": 5, "maximum": 3}}}),
    ("names that are keywords", of({"type": "object", "properties": {"not": {"type": "string"}, "if": {}}})),
    ("a value that looks like a schema", of({"const": {"pattern": "(?=a)", "maxLength": 2**40}})),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "schema"), WHOLE, ids=[each[0] for each in WHOLE])
def test_what_can_be_enforced_stays_as_it_is(kind: str, schema: Any) -> None:
    relaxed = relax(copy.deepcopy(schema))
    assert relaxed.schema == schema
    assert relaxed.passed_over == ()


COUNTS: list[tuple[str, Any, str, str]] = [
    # kind, the property's schema, what is allowed, what is not
    ("a whole number as a fraction", {"type": "string", "maxLength": 2.0}, '"ab"', '"abc'),
    ("of elements", {"type": "array", "items": {"type": "null"}, "maxItems": 1.0}, "[null]", "[null, null"),
    ("least", {"type": "string", "minLength": 1.0}, '"a"', '""'),
    ("of names", {"type": "object", "maxProperties": 9e99}, '{"b": 1}', "1"),
    ("int64", {"type": "string", "maxLength": 2**63 - 1}, '"ab"', "1"),
    ("JavaScript's largest", {"type": "string", "minLength": 1, "maxLength": 2**53 - 1}, '"ab"', '""'),
    ("beyond 64 bits", {"type": "string", "maxLength": 2**70}, '"ab"', "1"),
    ("of elements, beyond", {"type": "array", "items": {"type": "null"}, "maxItems": 2**70}, "[null, null]", "[1"),
    ("of names, beyond", {"type": "object", "maxProperties": 2**64}, '{"b": 1}', "1"),
    ("as large as C's int", {"type": "string", "maxLength": 2**31 - 1}, '"ab"', "1"),
    ("deep", {"anyOf": [{"type": "array", "items": {"type": "string", "maxLength": 1e18}}]}, '["ab"]', "[1"),
]


@pytest.mark.parametrize(("kind", "schema", "good", "bad"), COUNTS, ids=[each[0] for each in COUNTS])
@pytest.mark.parametrize("lenient", [True, False])
def test_counts_are_whole_and_as_large_as_they_like(kind: str, schema: Any, good: str, bad: str, lenient: bool) -> None:
    tool = Tool("f", {}, of(schema), strict=not lenient)
    calls = GRAMMARS.compile(calls_grammar("tags", ToolSet((tool,), "required")))
    for grammar, before in (
        (compiled(of(schema), lenient=lenient), ""),
        (calls, '<tool_call>\n{"name": "f", "arguments": '),
    ):
        assert grammar.passed_over == ()
        assert takes(grammar, f'{before}{{"a": {good}, "n": 1}}')
        assert not takes(grammar, f'{before}{{"a": {bad}, "n": 1')


@pytest.mark.parametrize(
    "schema",
    [
        of({"type": "strin"}),
        of({"type": 3}),
        of({"type": "string", "pattern": 3}),
        of({"enum": "x"}),
        of({"type": "string", "minLength": -1}),
        of({"type": "number", "multipleOf": 0}),
        of({"type": "number", "multipleOf": -0.5}),
        of({"$ref": "#/$defs/nobody"}),
        {"type": "object", "required": "a"},
        {"type": "object", "properties": []},
        {"allOf": [{"type": "integer"}, {"type": "string"}]},
        # What refers to nothing but itself.
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    ],
)
@pytest.mark.parametrize("lenient", [True, False])
def test_what_is_no_schema_is_refused_in_either_case(schema: Any, lenient: bool) -> None:
    with pytest.raises(RequestRefused) as refused:
        compiled(schema, lenient=lenient)
    assert refused.value.code == "grammar_invalid"


PYDANTIC = {
    "$defs": {
        "Item": {
            "properties": {
                "sku": {"pattern": r"^(?!0)\d+$", "title": "Sku", "type": "string"},
                "count": {"maximum": 9223372036854775807, "minimum": 0, "title": "Count", "type": "integer"},
            },
            "required": ["sku", "count"],
            "title": "Item",
            "type": "object",
        }
    },
    "properties": {
        "items": {"items": {"$ref": "#/$defs/Item"}, "title": "Items", "type": "array", "uniqueItems": True},
        "when": {"anyOf": [{"format": "date-time", "type": "string"}, {"type": "null"}], "default": None},
    },
    "required": ["items"],
    "title": "Order",
    "type": "object",
}
ZOD = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "email": {"type": "string", "format": "email", "pattern": EMAIL},
        "id": {"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991},
        "nick": {"type": "string", "format": "nanoid", "pattern": "^[a-zA-Z0-9_-]{21}$"},
        "tags": {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "string"}},
        "kind": {"oneOf": [{"const": "a"}, {"const": "b"}]},
    },
    "required": ["email", "id"],
    "additionalProperties": False,
}
LANGCHAIN = {"title": "joke", "description": "A joke.", "type": "object", "properties": {
    "setup": {"type": "string", "description": "s"}, "rating": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
}, "required": ["setup"]}  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "places", "good", "bad"),
    [
        (
            PYDANTIC,
            [
                "$defs/Item/properties/sku/pattern",
                "$defs/Item/properties/count/maximum",
                "properties/items/uniqueItems",
            ],
            '{"items": [{"sku": "01", "count": 3}]}',
            '{"items": [{"sku": "01", "count": -',
        ),
        (
            ZOD,
            ["properties/email/pattern", "properties/nick/format", "properties/tags/propertyNames"],
            '{"email": "a@b.de", "id": 4}',
            '{"email": "a@b.de", "id": "',
        ),
        (LANGCHAIN, [], '{"setup": "x", "rating": null}', '{"setup": 3'),
    ],
    ids=["pydantic", "zod", "langchain"],
)
def test_what_generators_write(schema: Any, places: list[str], good: str, bad: str) -> None:
    grammar = compiled(schema, lenient=True)
    assert sorted(grammar.passed_over) == sorted(f"schema#/{place}" for place in places)
    assert takes(grammar, good)
    assert not takes(grammar, bad)


@pytest.mark.parametrize("style", ["tags", "bare"])
def test_tools_are_relaxed_one_by_one(style: Any) -> None:
    bad = of({"type": "string", "pattern": "(?!a)b"})
    tools = (Tool("first", {}, bad), Tool("second", {}, of({"type": "integer"}), strict=True))
    grammar = calls_grammar(style, ToolSet(tools, "required"))
    assert grammar is not None
    assert grammar.passed_over == (f"tools.first{A}pattern",)
    assert GRAMMARS.compile(grammar).passed_over == grammar.passed_over
    with pytest.raises(RequestRefused, match=r"tools\.first, which is strict, .*#/properties/a/pattern"):
        calls_grammar(style, ToolSet((Tool("first", {}, bad, strict=True),), "required"))


def test_a_schema_beside_tools_is_relaxed_too() -> None:
    content = Grammar("json_schema", json.dumps(of({"type": "string", "pattern": "(?!a)b"})), lenient=True, param="p")
    grammar = calls_grammar("tags", ToolSet((Tool("f", {}, {"type": "object"}),)), content)
    assert grammar is not None
    assert grammar.passed_over == (f"p{A}pattern",)
    GRAMMARS.compile(grammar)


def test_many_places_are_reported_in_few_words() -> None:
    assert told(tuple(f"#/{number}" for number in range(20))) == ("#/0, #/1, #/2, #/3, #/4, #/5, #/6, #/7 and 12 more")
    assert told(("#/a",)) == "#/a"


def test_the_given_schema_is_left_alone() -> None:
    schema = of({"type": "array", "items": [{"type": "string", "pattern": "(?!a)b"}], "minimum": 2**63})
    before = json.dumps(schema)
    assert relax(schema).passed_over
    assert json.dumps(schema) == before
    assert strict_fault(of({"type": "integer"})) == ""


def test_what_would_take_too_long_is_refused() -> None:
    many = {"properties": {f"p{number}": {"type": "string", "pattern": f"(?!a)b{number}"} for number in range(600)}}
    with pytest.raises(RequestRefused, match="more than 512"):
        compiled(many, lenient=True)
    with pytest.raises(RequestRefused, match="more than 512"):
        calls_grammar("tags", ToolSet((Tool("f", {}, many),), "required"))
    same = {"properties": {f"p{number}": {"type": "string", "pattern": "(?!a)b"} for number in range(600)}}
    assert len(relax(same).passed_over) == 600


@pytest.mark.parametrize("lenient", [True, False])
def test_what_is_too_deep_is_refused(lenient: bool) -> None:
    deep: Any = {"type": "string", "pattern": "(?!a)b"}
    for _ in range(400):
        deep = {"type": "array", "items": deep}
    with pytest.raises(RequestRefused):
        compiled(deep, lenient=lenient)
    tool = Tool("f", {}, {"type": "object", "properties": {"a": deep}}, strict=not lenient)
    with pytest.raises(RequestRefused):
        GRAMMARS.compile(calls_grammar("tags", ToolSet((tool,), "required")))
