"""The object of a whole response, read by the official client's own model."""

from typing import Any

import msgspec
import pytest
from openai.types.responses import Response

from actors.api.errors import ErrorBody
from actors.api.request import ParsedBody
from actors.api.response import Delta, Served, ServerTimings
from gateway.openai.responses.completion import Identity
from gateway.responses_api.request_body import ResponseBody, read_response
from gateway.responses_api.response_object import ResponseObject, WholeResponse, response_body
from tests.gateway.fakes import SERVED, USAGE

IDENTITY = Identity("r", "m", 1_700_000_000, "fp")


def asked(**fields: Any) -> ParsedBody:
    given = {"model": "m", "input": "Hi", **fields}
    return read_response(ResponseBody(**given), given)


def whole(*deltas: Delta, **fields: Any) -> Response:
    collected = WholeResponse()
    for delta in deltas:
        collected.take(delta)
    raw = response_body(IDENTITY, [collected], USAGE, SERVED, asked(**fields))
    return Response.model_validate_json(raw, strict=True)


def test_a_whole_response() -> None:
    response = whole(Delta(0, "Hel", (1,)), Delta(0, "lo", (2,), finish_reason="stop"), temperature=0.5)
    assert (response.id, response.object, response.status, response.output_text) == (
        "resp_r",
        "response",
        "completed",
        "Hello",
    )
    assert (response.created_at, response.model, response.temperature) == (1_700_000_000, "m", 0.5)
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (5, 3, 8)
    assert response.usage.input_tokens_details.cached_tokens == 2
    assert response.model_extra is not None
    assert response.model_extra["penstock"]["rung"] == "small"


@pytest.mark.parametrize(("reason", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_a_cut_response_says_why(reason: Any, why: str) -> None:
    response = whole(Delta(0, "Hel", (1,), finish_reason=reason))
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == why
    assert response.output[0].status == "incomplete"


def test_an_answer_without_a_word_has_an_empty_message() -> None:
    assert [item.type for item in whole(Delta(0, "", (), finish_reason="stop")).output] == ["message"]
    assert whole(Delta(0, "", (), finish_reason="length")).output == []


@pytest.mark.parametrize(
    ("status", "code"), [(429, "rate_limit_exceeded"), (400, "invalid_prompt"), (503, "server_error")]
)
def test_an_error_has_the_client_s_code_and_ours(status: int, code: str) -> None:
    error = ErrorBody(status, "server_error", "engine_failed", "It failed.")
    made = ResponseObject(IDENTITY, asked())
    shown = made.fields("failed", error=error)["error"]
    assert (shown["code"], shown["reason"], shown["message"]) == (code, "engine_failed", "It failed.")


TIMED = msgspec.structs.replace(SERVED, timings=ServerTimings(500.0, None, 2400.0))


@pytest.mark.parametrize(
    ("reason", "served", "expected"),
    [("stop", TIMED, 1_700_000_003), ("stop", SERVED, 1_700_000_000), ("length", TIMED, None)],
)
def test_when_it_was_completed(reason: Any, served: Served, expected: int | None) -> None:
    collected = WholeResponse()
    collected.take(Delta(0, "Hi", (1,), finish_reason=reason))
    raw = response_body(IDENTITY, [collected], USAGE, served, asked())
    assert Response.model_validate_json(raw, strict=True).completed_at == expected


def test_numbers_that_were_not_asked_for_are_the_api_s_own() -> None:
    fields = ResponseObject(IDENTITY, asked()).fields("in_progress")
    assert [fields[name] for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty")] == [1, 1, 0, 0]
    fields = ResponseObject(IDENTITY, asked(temperature=0.0, top_p=0.5, presence_penalty=1.0)).fields("in_progress")
    assert [fields[name] for name in ("temperature", "top_p", "presence_penalty")] == [0, 0.5, 1]
