"""Grammars for the answer: OpenAI's `response_format`, vLLM's `structured_outputs` and `guided_…` fields."""

from typing import Annotated, Any

import msgspec

from engine.sampling.grammar import MAX_CHARACTERS, Grammar, GrammarKind
from gateway.errors import BadField
from gateway.openai.json_text import encode
from gateway.openai.requests.fault import fault
from gateway.openai.requests.neutral import field_schema

_MAX_CHOICES = 1024
_FORMATS = ("text", "json_object", "json_schema")
_Choices = Annotated[
    list[Annotated[str, field_schema(minLength=1)]] | None, field_schema(minItems=1, maxItems=_MAX_CHOICES)
]
_NOT_SERVED = ("disable_any_whitespace", "disable_additional_properties", "whitespace_pattern", "structural_tag")
"""Fields of `structured_outputs` that vLLM has and this server has not."""


class JsonSchemaFormat(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`response_format.json_schema`."""

    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`response_format`."""

    type: Annotated[str, field_schema(enum=list(_FORMATS))]
    json_schema: JsonSchemaFormat | None = None


class StructuredOutputs(msgspec.Struct, forbid_unknown_fields=True):
    """`structured_outputs`: one of these."""

    json: dict[str, Any] | str | None = None
    json_object: bool | None = None
    regex: str | None = None
    choice: _Choices = None
    grammar: str | None = None
    disable_fallback: Any = None
    """Without effect: there is only one implementation of grammars."""
    disable_any_whitespace: Any = None
    disable_additional_properties: Any = None
    whitespace_pattern: Any = None
    structural_tag: Any = None


class GrammarBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The fields; at most one of them may be set."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: _Choices = None
    guided_grammar: str | None = None


def answer_grammar(body: GrammarBody) -> Grammar | None:
    """The grammar for the answer, if one is requested. Raises `BadField`."""
    grammars: list[Grammar] = []
    if body.response_format is not None:
        grammars += _of_format(body.response_format)
    given = body.structured_outputs
    if given is not None:
        where = "structured_outputs"
        for name in _NOT_SERVED:
            if getattr(given, name):
                raise fault(
                    f"{where}.{name}", "is not supported by this server. Remove the field.", "unsupported_parameter"
                )
        grammars += _of_fields(given.json, given.regex, given.choice, given.grammar, f"{where}.")
        if given.json_object:
            grammars.append(_of_json({}, where))
    grammars += _of_fields(body.guided_json, body.guided_regex, body.guided_choice, body.guided_grammar, "guided_")
    if len(grammars) > 1:
        raise BadField(
            grammars[1].param, f"'{grammars[0].param}' and '{grammars[1].param}' contradict each other: give one."
        )
    return _bounded(grammars[0]) if grammars else None


def schema_grammar(schema: dict[str, Any], where: str, *, lenient: bool = False) -> Grammar:
    """The grammar for JSON that matches a schema, which is given in the field `where`. Raises `BadField`."""
    return _bounded(_of_json(schema, where, lenient=lenient))


def _bounded(grammar: Grammar) -> Grammar:
    if len(grammar.source) > MAX_CHARACTERS:
        raise fault(grammar.param, f"must have at most {MAX_CHARACTERS} characters, not {len(grammar.source)}.")
    return grammar


def _of_format(requested: ResponseFormat) -> list[Grammar]:
    match requested.type:
        case "text":
            return []
        case "json_object":
            return [_of_json({}, "response_format")]
        case "json_schema":
            where = "response_format.json_schema"
            if requested.json_schema is None or requested.json_schema.schema is None:
                raise fault(where, "must hold 'name' and 'schema'.", "missing_field")
            return [_of_json(requested.json_schema.schema, f"{where}.schema", lenient=not requested.json_schema.strict)]
        case _:
            raise fault("response_format.type", 'must be "text", "json_object" or "json_schema".')


def _of_fields(
    schema: dict[str, Any] | str | None, regex: str | None, choice: list[str] | None, grammar: str | None, prefix: str
) -> list[Grammar]:
    grammars: list[Grammar] = []
    if schema is not None:
        grammars.append(_of_json(schema, f"{prefix}json"))
    if choice is not None:
        where = f"{prefix}choice"
        if not 1 <= len(choice) <= _MAX_CHOICES or not all(choice):
            raise fault(where, f"must hold 1 to {_MAX_CHOICES} texts, none of them empty.")
        grammars.append(Grammar("choice", encode(choice).decode(), param=where))
    texts: tuple[tuple[GrammarKind, str | None], ...] = (("regex", regex), ("grammar", grammar))
    grammars += [Grammar(kind, text, param=f"{prefix}{kind}") for kind, text in texts if text is not None]
    return grammars


def _of_json(schema: dict[str, Any] | str, where: str, *, lenient: bool = False) -> Grammar:
    """A grammar for a JSON Schema; an empty schema means any object."""
    if isinstance(schema, str):
        try:
            schema = msgspec.json.decode(schema, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise fault(where, f"must be a JSON Schema, as an object or as its text: {error}.") from None
    return Grammar("json_schema", encode(schema or {"type": "object"}).decode(), lenient=lenient, param=where)
