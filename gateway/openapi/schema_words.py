"""A JSON Schema in words, as HTML. Everything that comes from a schema is escaped."""

from collections.abc import Mapping
from html import escape
from typing import Any

import msgspec

Schema = Mapping[str, Any]
_REF = "#/components/schemas/"
_BOUNDS = (
    ("minimum", "≥ {}"), ("exclusiveMinimum", "> {}"), ("maximum", "≤ {}"), ("exclusiveMaximum", "< {}"),
    ("minLength", "characters ≥ {}"), ("maxLength", "characters ≤ {}"),
    ("minItems", "items ≥ {}"), ("maxItems", "items ≤ {}"), ("maxProperties", "entries ≤ {}"),
)  # fmt: skip


def written(value: Any) -> str:
    """A value as JSON, escaped."""
    return escape(msgspec.json.encode(value).decode())


def anchor(name: str) -> str:
    """The id of a component's place on the page."""
    return escape(f"schema-{name}", quote=True)


def type_words(schema: Schema) -> str:
    """What a value may be: "string or null", "list of ChatChoice", with links to components."""
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix(_REF)
        return f'<a href="#{anchor(name)}">{escape(name)}</a>'
    if "const" in schema:
        return f"<code>{written(schema['const'])}</code>"
    if "enum" in schema and "anyOf" not in schema:
        return _joined([f"<code>{written(each)}</code>" for each in schema["enum"]])
    if options := schema.get("anyOf"):
        return _joined([type_words(each) for each in options])
    match schema.get("type"):
        case "array":
            items = schema.get("items")
            return f"list of {type_words(items)}" if isinstance(items, Mapping) else "list"
        case "object":
            values = schema.get("additionalProperties")
            return f"object of {type_words(values)}" if isinstance(values, Mapping) and values else "object"
        case str() as kind:
            return escape(kind)
    return "any value"


def bounds_words(schema: Schema) -> str:
    """The bounds of a value: "≥ 0, ≤ 2"; "" without any."""
    words = [text.format(written(schema[name])) for name, text in _BOUNDS if name in schema]
    if "pattern" in schema:
        words.append(f"matches <code>{escape(str(schema['pattern']))}</code>")
    for also in schema.get("allOf", ()):
        if "enum" in also or "anyOf" in also:
            words.append(f"only {type_words(also)}")
    return ", ".join(words)


def property_rows(schema: Schema) -> str:
    """Table rows for the properties of an object; those that are required come first."""
    required = set(schema.get("required", ()))
    properties = schema.get("properties", {})
    rows = []
    for name in sorted(properties, key=lambda each: each not in required):
        each = properties[name]
        need = ' <b class="need">required</b>' if name in required else ""
        bounds = bounds_words(each)
        default = each.get("default")
        notes = [
            *([f"<span>{bounds}</span>"] if bounds else []),
            *([f"<span>default <code>{written(default)}</code></span>"] if default is not None else []),
            *([inline(str(each["description"]))] if each.get("description") else []),
        ]
        rows.append(
            f"<tr><th scope=row><code>{escape(name)}</code>{need}</th><td>{type_words(each)}</td>"
            f"<td>{' '.join(notes)}</td></tr>"
        )
    return "".join(rows)


def paragraphs(text: str) -> str:
    """Markdown of a kind: paragraphs, **bold** and `code`."""
    return "".join([f"<p>{inline(each)}</p>" for each in text.strip().split("\n\n") if each])


def inline(text: str) -> str:
    """Text with **bold** and `code`."""
    parts = []
    for number, part in enumerate(escape(text.strip()).split("`")):
        if number % 2:
            parts.append(f"<code>{part}</code>")
        else:
            bold = part.split("**")
            parts.append("".join([f"<strong>{each}</strong>" if at % 2 else each for at, each in enumerate(bold)]))
    return "".join(parts)


def _joined(options: list[str]) -> str:
    once = list(dict.fromkeys(options))
    return " or ".join(once) if len(once) < 3 else ", ".join(once[:-1]) + " or " + once[-1]
