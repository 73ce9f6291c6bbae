"""Answers that go on without their client, by their id."""

from typing import Literal

from msgspec import Struct

from gateway.anthropic.answer_types import AnthropicMessage, MessageEvent
from gateway.endpoints.operations.common import FIND_ERRORS, LAST_EVENT, one_of
from gateway.openai.responses.answer_types import (
    ChatChunk,
    ChatCompletion,
    ErrorAnswer,
    ErrorFields,
    TextChunk,
    TextCompletion,
)
from gateway.openapi.headers import LAST_EVENT_ID, READ_AGAIN, SERVED
from gateway.openapi.operation import EVENTS, JSON, AnswerForm, Operation, Parameter
from gateway.openapi.words import KEPT
from gateway.responses_api.answer_types import ResponseAnswer
from gateway.responses_api.event_types import ResponseStreamEvent


class AnswerStatus(Struct):
    """How far a kept answer is."""

    id: str
    object: Literal["penstock.answer"]
    status: Literal["running", "interrupted", "ended", "failed"]
    """interrupted: a restart has ended it, and it goes on when it is read."""
    created: int
    model: str
    stream: bool
    completion_tokens: int
    """Those that were delivered."""
    error: ErrorFields | None


class DeletedAnswer(Struct):
    """It is ended and forgotten."""

    id: str
    object: Literal["penstock.answer"]
    deleted: Literal[True]


BEGUN = AnswerForm(
    text="The answer goes on in the background.",
    content={JSON: AnswerStatus},
    headers=READ_AGAIN,
    links={name: {"answer_id": "$response.body#/id"} for name in ("readAnswer", "getAnswerStatus", "deleteAnswer")},
)
_ID = Parameter(
    "answer_id",
    "path",
    {"type": "string", "minLength": 1, "pattern": "^[^/]+$"},
    "From the header `x-penstock-stream`.",
)
AFTER = Parameter(
    "after", "query", {"type": "integer", "minimum": 0, "maximum": 1 << 53},
    "The number (`id`) of the last event that came; it takes precedence over `Last-Event-ID`.",
)  # fmt: skip
KEPT_OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/streams/{answer_id}",
        name="readAnswer",
        tag=KEPT,
        summary="Read a kept answer, or go on reading it",
        text="In the format of the request that began it.",
        parameters=(_ID, AFTER, LAST_EVENT_ID),
        answers={
            200: AnswerForm(
                text="The answer from there on.",
                content={
                    JSON: one_of(ChatCompletion, TextCompletion, AnthropicMessage, ResponseAnswer),
                    EVENTS: one_of(ChatChunk, TextChunk, MessageEvent, ResponseStreamEvent, ErrorAnswer),
                },
                headers=(*SERVED, *READ_AGAIN),
                last_event=LAST_EVENT,
            )
        },
        refused=FIND_ERRORS | {409, 422, 504},
        errors="both",
    ),
    Operation(
        method="DELETE",
        path="/v1/streams/{answer_id}",
        name="deleteAnswer",
        tag=KEPT,
        summary="End and forget a kept answer",
        parameters=(_ID,),
        answers={200: AnswerForm(text="It is forgotten.", content={JSON: DeletedAnswer})},
        refused=FIND_ERRORS,
        errors="both",
    ),
    Operation(
        method="GET",
        path="/v1/streams/{answer_id}/status",
        name="getAnswerStatus",
        tag=KEPT,
        summary="How far a kept answer is",
        parameters=(_ID,),
        answers={200: AnswerForm(text="How far it is.", content={JSON: AnswerStatus})},
        refused=FIND_ERRORS,
        errors="both",
    ),
)
