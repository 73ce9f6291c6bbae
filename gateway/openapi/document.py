"""The OpenAPI document, made of the operations."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.anthropic.answer_types import MessageErrorAnswer
from gateway.openai.responses.answer_types import ErrorAnswer
from gateway.openapi.components import Components
from gateway.openapi.headers import DECIDED, FAILED, HEADERS, MESSAGES
from gateway.openapi.operation import EVENTS, JSON, AnswerForm, ErrorStyle, OneOf, Operation, Parameter, Schema
from gateway.openapi.words import ERROR_TEXTS, INTRODUCTION, TAGS

EVERY = frozenset({400, 403, 405, 408, 413, 429, 431, 500, 503, 505})
"""Statuses of errors that any request can get: for its head, its size, its origin, or the state of the server."""
ADMIN = "http://127.0.0.1:8081"
_ERRORS: Mapping[ErrorStyle, Any] = {
    "openai": ErrorAnswer,
    "anthropic": MessageErrorAnswer,
    "both": OneOf((ErrorAnswer, MessageErrorAnswer)),
}
_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`Authorization: Bearer KEY`, as OpenAI's clients send it.",
    },
    "api_key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The same key, as Anthropic's clients send it.",
    },
}
_KEYED: list[dict[str, list[str]]] = [{"bearer": []}, {"api_key": []}]


def api_document(operations: Sequence[Operation], version: str, *, keyless: bool) -> dict[str, Any]:
    """The document. `keyless`: of a server without keys, which serves this machine only."""
    components = Components(_contents(operations), [part for each in operations for part in each.parts])
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        for number, path in enumerate((operation.path, *operation.same_as)):
            name = operation.name + (f"_{number}" if number else "")
            paths.setdefault(path, _path_item(operation))[operation.method.lower()] = _operation(
                operation, name, components, keyless=keyless
            )
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {"title": "Penstock", "version": version, "summary": "A streaming gateway for language models.",
                 "description": INTRODUCTION},
        "servers": [{"url": "/", "description": "The server that this document comes from."}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": components.schemas,
            "headers": {name: dict(header) for name, header in HEADERS.items()},
            "responses": _error_responses(components),
            "securitySchemes": _SCHEMES,
        },
        "security": _security("client", keyless=keyless),
    }  # fmt: skip


def _contents(operations: Iterable[Operation]) -> list[Any]:
    contents: list[Any] = list(_ERRORS.values())
    for operation in operations:
        if operation.body is not None:
            contents.append(operation.body)
        contents += [content for answer in operation.answers.values() for content in answer.content.values()]
    return contents


def _path_item(operation: Operation) -> dict[str, Any]:
    ours = {"url": "/", "description": "The API for clients."}
    admin = {
        "url": ADMIN,
        "description": "The admin API, which has a port of its own (`[admin]` in the configuration).",
    }
    match operation.listener:
        case "admin":
            return {"servers": [admin]}
        case "both":
            return {"servers": [ours, admin]}
    return {}


def _operation(operation: Operation, name: str, components: Components, *, keyless: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.text,
        "parameters": [_parameter(each) for each in operation.parameters],
        "responses": _responses(operation, components, keyless=keyless),
    }
    if operation.body is not None or operation.body_text:
        made["requestBody"] = _request_body(operation, components)
    if operation.key != "client":
        made["security"] = _security(operation.key, keyless=keyless)
    return {name: value for name, value in made.items() if value not in ("", [])} | (
        {"security": []} if operation.key == "none" else {}
    )


def _request_body(operation: Operation, components: Components) -> dict[str, Any]:
    # A text has no schema: every body is one.
    schema: dict[str, Any] = {}
    if operation.body is not None:
        schema = dict(components.of(operation.body))
        if operation.needs:
            schema["required"] = list(operation.needs)
            schema["properties"] = {name: {"not": {"type": "null"}} for name in operation.needs}
    media: dict[str, Any] = {"schema": schema}
    if operation.examples:
        media["examples"] = {name: {"value": value} for name, value in operation.examples.items()}
    body = {"content": {operation.body_media: media}, "required": not operation.body_optional}
    return {"description": operation.body_text, **body} if operation.body_text else body


def _parameter(parameter: Parameter) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.where == "path",
        "schema": parameter.schema,
    }
    if parameter.text:
        made["description"] = parameter.text
    if parameter.example is not None:
        made["example"] = parameter.example
    return made


def _responses(operation: Operation, components: Components, *, keyless: bool) -> dict[str, Any]:
    responses = {str(status): _answer(operation, each, components) for status, each in operation.answers.items()}
    statuses = EVERY | operation.refused
    if operation.key != "none":
        statuses |= {401}
    if operation.body is not None:
        statuses |= {415}
    for status in sorted(statuses):
        if str(status) not in responses:
            responses[str(status)] = {"$ref": f"#/components/responses/{_error_name(operation.errors, status)}"}
    return dict(sorted(responses.items()))


def _answer(operation: Operation, answer: AnswerForm, components: Components) -> dict[str, Any]:
    own = () if operation.key in {"none", "operator", "scraper"} else DECIDED
    if operation.errors != "openai":
        own += MESSAGES
    made: dict[str, Any] = {
        "description": answer.text,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in (*own, *answer.headers)},
        "content": {
            media: {
                "schema": _event(components.of(content), answer.last_event)
                if media == EVENTS
                else components.of(content)
            }
            for media, content in answer.content.items()
        },
    }
    if answer.links:
        made["links"] = {
            name: {"operationId": name, "parameters": dict(parameters)} for name, parameters in answer.links.items()
        }
    return {name: value for name, value in made.items() if value}


def _event(data: Schema, last: str) -> Schema:
    """One event of a stream whose `data` is JSON with this schema, as OpenAPI 3.2 has it in `itemSchema`."""
    json_text: Schema = {"contentMediaType": JSON, "contentSchema": data}
    return {
        "type": "object",
        "description": "One event.",
        "properties": {
            "data": {"type": "string", **({"anyOf": [json_text, {"const": last}]} if last else json_text)},
            "event": {"type": "string"},
            "id": {"type": "string", "description": "The number of the event, of a kept answer."},
        },
        "required": ["data"],
    }


def _error_responses(components: Components) -> dict[str, Any]:
    return {
        _error_name(style, status): {
            "description": text,
            "headers": {
                name: {"$ref": f"#/components/headers/{name}"}
                for name in (*DECIDED, *(MESSAGES if style != "openai" else ()), *FAILED,
                             *(("www-authenticate",) if status == 401 else ()))
            },
            "content": {JSON: {"schema": components.of(content)}},
        }
        for style, content in _ERRORS.items()
        for status, text in ERROR_TEXTS.items()
    }  # fmt: skip


def _error_name(style: ErrorStyle, status: int) -> str:
    return f"{style}_{status}"


def _security(kind: str, *, keyless: bool) -> list[dict[str, list[str]]]:
    if kind == "none":
        return []
    return [*_KEYED, {}] if keyless else _KEYED
