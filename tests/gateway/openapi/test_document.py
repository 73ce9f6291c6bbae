"""The parts of the document, from few operations."""

from typing import Any

import msgspec

from gateway.openapi.document import api_document
from gateway.openapi.operation import EVENTS, JSON, AnswerForm, Operation, Parameter
from gateway.openapi.words import ADMIN, CHAT, SERVER


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """What is asked."""

    text: str
    times: int | None = None


class Told(msgspec.Struct):
    """What is said."""

    text: str


ASK = Operation(
    method="POST",
    path="/ask",
    name="ask",
    tag=CHAT,
    summary="Ask",
    body=Question,
    needs=("times",),
    examples={"one": {"text": "a", "times": 1}},
    answers={
        200: AnswerForm(text="Said.", content={JSON: Told, EVENTS: Told}, links={"read": {"id": "$response.body#/id"}})
    },
    refused=frozenset({404}),
    same_as=("/v1/ask",),
    errors="anthropic",
)
READ = Operation(
    method="GET",
    path="/read/{id}",
    name="read",
    tag=SERVER,
    summary="Read",
    parameters=(Parameter("id", "path", {"type": "string"}),),
    answers={200: AnswerForm(text="Read.", content={JSON: Told})},
    key="none",
)
FORGET = Operation(
    method="DELETE", path="/read/{id}", name="forget", tag=ADMIN, summary="Forget", parameters=READ.parameters,
    answers={200: AnswerForm(text="Gone.", content={JSON: Told})}, key="operator", listener="admin",
)  # fmt: skip


def document(*, keyless: bool = False) -> dict[str, Any]:
    return api_document((ASK, READ, FORGET), "1.2.3", keyless=keyless)


def test_addresses() -> None:
    made = document()
    assert (made["openapi"], made["info"]["version"]) == ("3.1.0", "1.2.3")
    assert set(made["paths"]) == {"/ask", "/v1/ask", "/read/{id}"}
    assert made["paths"]["/v1/ask"]["post"]["operationId"] == "ask_1"
    assert made["paths"]["/read/{id}"]["get"]["parameters"][0]["required"] is True


def test_a_body_with_what_only_this_operation_needs() -> None:
    body = document()["paths"]["/ask"]["post"]["requestBody"]
    assert body["required"] is True
    assert body["content"][JSON]["schema"] == {
        "$ref": "#/components/schemas/Question",
        "required": ["times"],
        "properties": {"times": {"not": {"type": "null"}}},
    }
    assert body["content"][JSON]["examples"] == {"one": {"value": {"text": "a", "times": 1}}}


def test_answers_and_errors() -> None:
    made = document()
    answers = made["paths"]["/ask"]["post"]["responses"]
    assert set(answers["200"]["content"]) == {JSON, EVENTS}
    assert answers["200"]["content"][EVENTS]["schema"]["properties"]["data"]["contentSchema"] == {
        "$ref": "#/components/schemas/Told"
    }
    assert "x-ratelimit-limit-requests" in answers["200"]["headers"]
    assert answers["200"]["links"]["read"]["operationId"] == "read"
    assert answers["404"] == {"$ref": "#/components/responses/anthropic_404"}
    assert {"401", "415", "429", "500", "503"} <= set(answers)
    read = made["paths"]["/read/{id}"]["get"]
    assert "401" not in read["responses"]
    assert "headers" not in read["responses"]["200"]


def test_keys() -> None:
    keyed, keyless = document(), document(keyless=True)
    assert keyed["security"] == [{"bearer": []}, {"api_key": []}]
    assert keyless["security"] == [{"bearer": []}, {"api_key": []}, {}]
    for made in (keyed, keyless):
        assert made["paths"]["/read/{id}"]["get"]["security"] == []
        assert "security" not in made["paths"]["/ask"]["post"]
        assert made["paths"]["/read/{id}"]["delete"]["security"] == made["security"]
