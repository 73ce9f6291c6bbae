"""Holds answers of a server to the document, and more strictly: it leaves room for new fields, and this does not."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from gateway.endpoints.operations.all_operations import described

JSON, EVENTS = "application/json", "text/event-stream"


@cache
def closed_components() -> dict[str, Any]:
    """The components, in which no object may have fields that are not described."""
    components = json.loads(json.dumps(described(keyless=False)["components"]))
    for schema in components["schemas"].values():
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return components


def responses_of(method: str, path: str) -> Mapping[str, Any]:
    """By status; those that several operations share, too."""
    document = described(keyless=False)
    given = document["paths"][path][method.lower()]["responses"]
    shared = document["components"]["responses"]
    return {
        status: shared[each["$ref"].rpartition("/")[2]] if "$ref" in each else each for status, each in given.items()
    }


def check_answer(  # noqa: PLR0917
    method: str, path: str, status: int, content_type: str, headers: Mapping[str, str], body: bytes
) -> None:
    """`path`: as the document has it. Raises AssertionError, or jsonschema's error."""
    answers = responses_of(method, path)
    assert str(status) in answers, f"{method} {path} answered {status}, which is not described: {body[:200]!r}"
    answer = answers[str(status)]
    for name in headers:
        if name.startswith(("x-penstock-", "x-ratelimit-", "anthropic-ratelimit-")):
            assert name in answer.get("headers", {}), f"{method} {path} {status}: the header {name} is not described"
    media = content_type.partition(";")[0]
    if not body and "content" not in answer:
        return
    assert media in answer["content"], f"{method} {path} answered {media}, which is not described"
    schema = answer["content"][media]["schema"]
    if media == EVENTS:
        data = schema["properties"]["data"]
        schema = data.get("anyOf", [data])[0]["contentSchema"]
    validator = Draft202012Validator({**schema, "components": closed_components()})
    if media == JSON:
        validator.validate(json.loads(body))
    elif media == EVENTS:
        events = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
        assert events
        for event in events:
            if event != "[DONE]":
                validator.validate(json.loads(event))
    else:
        validator.validate(body.decode())
