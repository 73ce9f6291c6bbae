"""Output that a strict schema allows is valid: number keywords are enforced exactly, or refused by name."""

import itertools
import json
from fractions import Fraction
from typing import Any

import pytest

from engine.errors import RequestRefused
from engine.sampling.grammar import CompiledGrammar, Grammar, Grammars
from engine.sampling.schema_numbers import number_faults
from tests.engine import tiny_tokenizers

TOKENIZER = tiny_tokenizers.byte_level_tokenizer()
GRAMMARS = Grammars(TOKENIZER)
BYTES = {TOKENIZER.token_bytes(token): token for token in range(TOKENIZER.vocab_size)}
VOCAB = TOKENIZER.vocab_size
BIG = 2**53


def compiled(schema: Any, *, lenient: bool = False) -> CompiledGrammar:
    return GRAMMARS.compile(Grammar("json_schema", json.dumps(schema), lenient=lenient))


def accepts(grammar: CompiledGrammar, text: str) -> bool:
    state = grammar.start()
    said = [BYTES[bytes([byte])] for byte in text.encode()]
    state.advance(said)
    if state.error is not None:
        return False
    return state.complete or bool(state.allowed(said, VOCAB)[min(TOKENIZER.eos_ids)])


def valid(text: str, schema: dict[str, Any]) -> bool:
    """A validator with exact numbers, because published validators compute with floats."""
    value = Fraction(text)
    tests = {
        "minimum": lambda bound: value >= bound,
        "exclusiveMinimum": lambda bound: value > bound,
        "maximum": lambda bound: value <= bound,
        "exclusiveMaximum": lambda bound: value < bound,
        "multipleOf": lambda bound: (value / bound).denominator == 1,
    }
    whole = schema.get("type") != "integer" or value.denominator == 1
    return whole and all(test(Fraction(str(schema[name]))) for name, test in tests.items() if name in schema)


ENDS = (-10.25, -2, -1, -0.5, 0, 0.1, 0.75, 1, 1.25, 10)
LOWER, UPPER = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
TEXTS = sorted({
    *(f"{number / 20:.2f}" for number in (-41, -40, -39, -21, -19, -11, -10, -9, 1, 2, 3, 14, 15, 16, 21, 25, 26)),
    *("0", "-0", "0.0", "-0.0", "1", "-1", "1.0", "-1.0", "2", "-2", "9", "9.5", "9.51", "10", "10.0", "10.01", "11"),
    *("-9", "-10", "-10.0", "-10.25", "-10.26", "-11", "0.001", "-0.001", "1.001", "0.999", "-0.999", "-1.001"),
})  # fmt: skip


@pytest.mark.sample(4)
@pytest.mark.parametrize("kind", ["number", "integer"])
@pytest.mark.parametrize(("lower", "upper"), list(itertools.product(LOWER, UPPER)))
def test_every_pair_of_bounds_is_obeyed_or_refused(kind: str, lower: str, upper: str) -> None:
    obeyed = 0
    for low, high in itertools.combinations_with_replacement(ENDS, 2):
        schema = {"type": kind, lower: low, upper: high}
        try:
            grammar = compiled(schema)
        except RequestRefused:
            continue
        obeyed += 1
        wrong = [text for text in TEXTS if not valid(text, schema) and accepts(grammar, text)]
        assert not wrong, schema
    assert obeyed > 25


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"const": BIG + 1}, "#/const"),
    ({"const": -(2**63)}, "#/const"),
    ({"const": 12345678901234567890}, "#/const"),
    ({"const": 15294108602.595617}, "#/const"),
    ({"const": 4.3432e-21}, "#/const"),
    ({"const": {"a": [1, {"b": -BIG - 1}]}}, "#/const"),
    ({"enum": ["a", BIG + 1]}, "#/enum"),
    ({"enum": [1, [-(2**63)]]}, "#/enum"),
    ({"type": "integer", "minimum": BIG + 1}, "#/minimum"),
    ({"type": "integer", "maximum": -BIG - 1}, "#/maximum"),
    ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, "#/minimum"),
    ({"type": "integer", "minimum": 1e20, "maximum": 1e21}, "#/minimum"),
    ({"type": "number", "exclusiveMinimum": 2**64}, "#/exclusiveMinimum"),
    ({"type": "number", "maximum": 15294108602.595617}, "#/maximum"),
    ({"exclusiveMinimum": 0, "maximum": 0.1}, "#/exclusiveMinimum"),
    ({"type": "number", "exclusiveMinimum": 2, "exclusiveMaximum": 2.5}, "#/exclusiveMinimum"),
    ({"type": "number", "minimum": -0.5, "exclusiveMaximum": 0}, "#/exclusiveMaximum"),
    ({"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 0.1}, "#/exclusiveMinimum"),
    ({"allOf": [{"exclusiveMinimum": 0}, {"type": "number", "maximum": 0.1}]}, "exclusiveMinimum"),
    ({"$ref": "#/$defs/a", "maximum": 0.1, "$defs": {"a": {"exclusiveMinimum": 0}}}, "exclusiveMinimum"),
    ({"exclusiveMinimum": 0, "anyOf": [{"maximum": 5}, {"maximum": 0.5}]}, "exclusiveMinimum"),
    ({"type": "object", "properties": {"a/b": {"const": BIG + 1}}}, "#/properties/a~1b/const"),
    ({"type": "array", "items": {"minimum": 2 * BIG}}, "#/items/minimum"),
    ({"type": "object", "required": ["a"], "minProperties": 3}, "#/minProperties"),
    ({"patternProperties": {"^a": {}}, "additionalProperties": False, "minProperties": 2}, "#/minProperties"),
    ({"type": "array", "prefixItems": [{"enum": [2 * BIG]}]}, "#/prefixItems/0/enum"),
    ({"$defs": {"x": {"const": 2 * BIG}}, "type": "array", "items": {"$ref": "#/$defs/x"}}, "#/$defs/x/const"),
]


@pytest.mark.parametrize(("schema", "where"), REFUSED, ids=[json.dumps(row[0])[:70] for row in REFUSED])
def test_what_would_not_be_obeyed_is_refused_by_name(schema: dict[str, Any], where: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        compiled(schema)
    assert where in refused.value.message
    # Non-strict requests get the enforceable rest.
    assert compiled(schema, lenient=True)


GOOD: list[tuple[dict[str, Any], list[str]]] = [
    ({"const": BIG}, [str(BIG)]),
    ({"const": -BIG}, [str(-BIG)]),
    ({"const": 0.1}, ["0.1"]),
    ({"enum": [1e-7, 3]}, ["3"]),
    ({"const": {"minimum": 3}}, ['{"minimum": 3}']),
    ({"type": "object", "properties": {"const": {"type": "integer"}}, "required": ["const"]}, ['{"const": 99}']),
    ({"type": "integer", "exclusiveMinimum": 0, "maximum": 1}, ["1"]),
    ({"type": "integer", "minimum": 0, "maximum": BIG}, [str(BIG), "7"]),
    ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, ["0.5", "0.01"]),
    ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, ["0.5", "1"]),
    ({"type": "number", "minimum": 0.5, "exclusiveMaximum": 1}, ["0.5", "0.99"]),
    ({"type": "number", "multipleOf": 0.01, "minimum": 0}, ["0.25"]),
    ({"type": "object", "required": ["a"], "minProperties": 2}, ['{"a":1,"b":2}']),
    ({"type": "object", "minProperties": 1, "additionalProperties": {"type": "integer"}}, ['{"b":2}']),
    ({"anyOf": [{"type": "number", "exclusiveMinimum": 3}, {"type": "number", "maximum": -3.5}]}, ["4", "-4"]),
]


@pytest.mark.parametrize(("schema", "texts"), GOOD, ids=[json.dumps(row[0])[:70] for row in GOOD])
def test_what_is_obeyed_is_not_refused(schema: dict[str, Any], texts: list[str]) -> None:
    grammar = compiled(schema)
    assert all(accepts(grammar, text) for text in texts)


HIDDEN = -(2**63)
PLACES: list[Any] = [
    {"$ref": "#/x/0/y", "x": [{"y": {"const": HIDDEN}}]},
    {"$ref": "#/$defs", "$defs": {"const": HIDDEN}},
    {"$ref": "#/default", "default": {"enum": [{"a": HIDDEN}]}},
    {"if": {"const": HIDDEN}, "then": {"enum": [HIDDEN]}},
    {"anyOf": [{"type": "string"}, {"not": {"const": HIDDEN}}]},
]


@pytest.mark.parametrize("schema", PLACES, ids=[json.dumps(each) for each in PLACES])
@pytest.mark.parametrize("form", ["start: %json {}", "start: x\nx: %json // c\n  {}", 'start: "a" %json{} "b"', ""])
def test_no_form_and_no_place_hides_a_number_that_ends_the_process(schema: dict[str, Any], form: str) -> None:
    source = json.dumps(schema)
    grammar = Grammar("grammar", form.replace("{}", source)) if form else Grammar("json_schema", source)
    with pytest.raises(RequestRefused, match="cannot be enforced"):
        GRAMMARS.compile(grammar)


def test_a_schema_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(RequestRefused, match="no JSON"):
        GRAMMARS.compile(Grammar("grammar", "start: %json"))


def test_schemas_of_tools_are_looked_at() -> None:
    lenient = {"const": HIDDEN, "x-guidance": {"lenient": True}}
    assert GRAMMARS.compile(Grammar("grammar", f"start: %json {json.dumps(lenient)}"))
    several = 'start: %json {"const": 5} "%" %json {"const": 7}'
    assert accepts(GRAMMARS.compile(Grammar("grammar", several)), "5%7")


def test_a_schema_that_names_itself_ends() -> None:
    schema: dict[str, Any] = {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#"}]}}}
    assert list(number_faults(schema)) == []


def test_schemas_that_name_each_other_in_every_way_are_not_looked_at_for_ever() -> None:
    twice: dict[str, Any] = {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(60)}
    assert list(number_faults({"$ref": "#/$defs/0", "$defs": {**twice, "60": {"exclusiveMinimum": 0}}})) == []
    hub = {"allOf": [{"maximum": 2 + number} for number in range(300)]}
    crowd: dict[str, Any] = {"$defs": {"hub": hub, **{str(n): {"$ref": "#/$defs/hub"} for n in range(300)}}}
    with pytest.raises(RequestRefused, match="refer to each other"):
        compiled(crowd)


def test_the_library_still_has_the_gap() -> None:
    """If this fails, llguidance has changed: the corresponding refusal can be removed."""
    from llguidance import LLMatcher

    source = LLMatcher.grammar_from_json_schema(json.dumps({"type": "number", "exclusiveMinimum": 0, "maximum": 0.1}))
    matcher = LLMatcher(GRAMMARS._vocabulary, source)
    assert matcher.consume_token(BYTES[b"0"])
    assert matcher.is_accepting()
