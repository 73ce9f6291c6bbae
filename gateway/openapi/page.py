"""The document as a page, readable without JavaScript. Style and script are in the page; nothing else is loaded."""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from gateway.openapi.schema_words import anchor, inline, paragraphs, property_rows, type_words

Part = Mapping[str, Any]
_METHODS = ("get", "post", "delete")
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Penstock API</title>
<style>{style}</style>
</head><body>
<a class="skip" href="#main">To the addresses</a>
<header><h1>Penstock API</h1><p>Version {version} · <a href="/openapi.json">openapi.json</a> · OpenAPI {openapi}</p>
<div id="tools" hidden><input id="search" type="search" placeholder="Search addresses ( / )" autocomplete="off"
aria-label="Search addresses"><button id="all" type="button" aria-pressed="false">Open all</button>
<output id="found" for="search"></output></div></header>
"""


def page_of(document: Part) -> str:
    """The whole page."""
    info = document["info"]
    head = _HEAD.format(style=_file("page.css"), version=escape(info["version"]), openapi=escape(document["openapi"]))
    by_tag: dict[str, list[tuple[str, str, Part]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                by_tag[item[method]["tags"][0]].append((path, method, item))
    sections = [_section(tag, by_tag[tag["name"]], document) for tag in document["tags"]]
    return "".join(
        [
            head,
            f'<nav aria-label="Addresses">{"".join(_links(by_tag))}<a href="#schemas">Schemas</a></nav>',
            f'<main id="main"><section class="intro">{paragraphs(info["description"])}</section>',
            *sections,
            _schemas(document["components"]["schemas"]),
            f"</main><script>{_file('page.js')}</script></body></html>\n",
        ]
    )


@cache
def page_policy() -> str:
    """The Content-Security-Policy of the page: its own style and script by their digests, and nothing else."""
    style, script = (_digest(_file(name)) for name in ("page.css", "page.js"))
    return (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


@cache
def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text()


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _links(by_tag: Mapping[str, list[tuple[str, str, Part]]]) -> Iterator[str]:
    for tag, operations in by_tag.items():
        yield f"<details open><summary>{escape(tag)}</summary><ul>"
        for path, method, item in operations:
            name = escape(item[method]["operationId"], quote=True)
            yield f'<li><a href="#{name}">{_method(method)} <code>{_path(path)}</code></a></li>'
        yield "</ul></details>"


def _section(tag: Part, operations: list[tuple[str, str, Part]], document: Part) -> str:
    shown = "".join([_operation(path, method, item, document) for path, method, item in operations])
    return f"<section><h2>{escape(tag['name'])}</h2><p>{inline(tag['description'])}</p>{shown}</section>"


def _operation(path: str, method: str, item: Part, document: Part) -> str:
    operation = item[method]
    name = escape(operation["operationId"], quote=True)
    words = escape(f"{method} {path} {operation['summary']} {operation['operationId']}".lower(), quote=True)
    return (
        f'<details class="operation" id="{name}" data-words="{words}"><summary>{_method(method)} '
        f"<code>{_path(path)}</code> <span>{inline(operation['summary'])}</span></summary><div>"
        f"{paragraphs(operation.get('description', ''))}"
        f"<p class=key>{_key(operation.get('security', document['security']))}{_servers(item)}</p>"
        f"{_parameters(operation.get('parameters', ()))}{_body(operation, path)}"
        f"{_answers(operation['responses'], document)}</div></details>"
    )


def _method(method: str) -> str:
    return f'<b class="method {method}">{method.upper()}</b>'


def _path(path: str) -> str:
    """With places where a narrow page may break it."""
    return escape(path).replace("/", "<wbr>/")


def _key(security: list[Part]) -> str:
    if not security:
        return "No key is needed."
    return "A key is needed." if {} not in security else "This server needs no key."


def _servers(item: Part) -> str:
    return "".join([f" {inline(each['description'])}" for each in item.get("servers", ()) if each["url"] != "/"])


def _parameters(parameters: Any) -> str:
    if not parameters:
        return ""
    rows = "".join(
        [
            f"<tr><th scope=row><code>{escape(each['name'])}</code></th><td>{escape(each['in'])}</td>"
            f"<td>{type_words(each['schema'])}</td><td>{inline(each.get('description', ''))}</td></tr>"
            for each in parameters
        ]
    )
    return f"<h3>Parameters</h3>{_table(('Name', 'In', 'Type', ''), rows)}"


def _body(operation: Part, path: str) -> str:
    body = operation.get("requestBody")
    if body is None:
        return ""
    ((media, content),) = body["content"].items()
    need = "" if body["required"] else ", or empty"
    needed = content["schema"].get("required", ())
    fields = f" with {', '.join([f'<code>{escape(each)}</code>' for each in needed])}" if needed else ""
    kind = type_words(content["schema"]) if content["schema"] else "text"
    shown = [f"<h3>Body</h3><p>{kind}{fields} as <code>{escape(media)}</code>{need}. "]
    shown.append(f"{inline(body.get('description', ''))}</p>")
    for name, example in content.get("examples", {}).items():
        value = msgspec.json.format(msgspec.json.encode(example["value"]), indent=2).decode()
        shown.append(f"<h4>Example: {escape(name)}</h4><pre tabindex=0>POST {escape(path)}\n\n{escape(value)}</pre>")
    return "".join(shown)


def _answers(responses: Part, document: Part) -> str:
    rows = []
    for status, given in responses.items():
        answer = given
        if "$ref" in given:
            answer = document["components"]["responses"][given["$ref"].rpartition("/")[2]]
        content = "<br>".join(
            [
                f"<code>{escape(media)}</code>: {_content(each['schema'])}"
                for media, each in answer.get("content", {}).items()
            ]
        )
        headers = ", ".join([f"<code>{escape(name)}</code>" for name in answer.get("headers", {})])
        more = f"<details><summary>Headers</summary><p>{headers}</p></details>" if headers else ""
        said = inline(answer["description"])
        rows.append(f"<tr><th scope=row>{escape(status)}</th><td>{content}</td><td>{said}{more}</td></tr>")
    return f"<h3>Answers</h3>{_table(('Status', 'Content', ''), ''.join(rows))}"


def _content(schema: Part) -> str:
    data = schema.get("properties", {}).get("data", {})
    data = data.get("anyOf", [data])[0]
    return f"events of {type_words(data['contentSchema'])}" if "contentSchema" in data else type_words(schema)


def _schemas(schemas: Part) -> str:
    shown = []
    for name, schema in schemas.items():
        rows = property_rows(schema)
        table = _table(("Field", "Type", ""), rows) if rows else f"<p>{type_words(schema)}</p>"
        words = escape(name.lower(), quote=True)
        shown.append(
            f'<details class="schema" id="{anchor(name)}" data-words="{words}"><summary><code>{escape(name)}</code> '
            f"<span>{inline(_first_line(schema.get('description', '')))}</span></summary><div>{table}</div></details>"
        )
    return f'<section id="schemas"><h2>Schemas</h2>{"".join(shown)}</section>'


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _table(names: tuple[str, ...], rows: str) -> str:
    head = "".join([f"<th scope=col>{escape(name)}</th>" for name in names])
    return f'<div class="wide" tabindex=0><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
