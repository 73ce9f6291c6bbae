"""Schemas in words."""

from typing import Any

import pytest

from gateway.openapi.schema_words import anchor, bounds_words, inline, paragraphs, property_rows, type_words, written

REF = {"$ref": "#/components/schemas/ChatBody"}
LINK = '<a href="#schema-ChatBody">ChatBody</a>'


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, "any value"),
        ({"type": "string"}, "string"),
        (REF, LINK),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}, "string, integer or null"),
        ({"enum": ["a", None]}, "<code>&quot;a&quot;</code> or <code>null</code>"),
        ({"const": "<b>"}, "<code>&quot;&lt;b&gt;&quot;</code>"),
        ({"type": "array"}, "list"),
        ({"type": "array", "items": REF}, f"list of {LINK}"),
        ({"type": "object"}, "object"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "object of integer"),
    ],
)
def test_types(schema: dict[str, Any], words: str) -> None:
    assert type_words(schema) == words


def test_bounds() -> None:
    assert bounds_words({"type": "string"}) == ""
    assert bounds_words({"minimum": 0, "exclusiveMaximum": 2}) == "≥ 0, &lt; 2".replace("&lt;", "<")
    assert bounds_words({"pattern": "^<"}) == "matches <code>^&lt;</code>"
    assert bounds_words({"allOf": [{"enum": [False]}]}) == "only <code>false</code>"


def test_rows_begin_with_what_is_required() -> None:
    schema = {
        "required": ["b"],
        "properties": {"a": {"type": "integer", "default": 3, "description": "<i>`x`"}, "b": {"type": "string"}},
    }
    rows = property_rows(schema).split("</tr>")
    assert "<code>b</code>" in rows[0]
    assert "required" in rows[0]
    assert "default <code>3</code>" in rows[1]
    assert "&lt;i&gt;<code>x</code>" in rows[1]


def test_text() -> None:
    assert inline("a **b** `c **d**` <e>") == "a <strong>b</strong> <code>c **d**</code> &lt;e&gt;"
    assert paragraphs("a\n\nb") == "<p>a</p><p>b</p>"
    assert paragraphs("") == ""
    assert written({"a": "<"}) == "{&quot;a&quot;:&quot;&lt;&quot;}"
    assert anchor('a"b') == "schema-a&quot;b"
