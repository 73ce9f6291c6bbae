"""Models, health, version, metrics, pages, and the description itself."""

from typing import Any, Literal

from msgspec import Struct

from gateway.anthropic.answer_types import MessageModel, MessageModels
from gateway.anthropic.model_list import DEFAULT_MODELS, MOST_MODELS
from gateway.endpoints.operations.common import FIND_ERRORS, found, one_of
from gateway.openai.responses.answer_types import ModelEntries, ModelEntry
from gateway.openapi.operation import HTML, JSON, PLAIN, AnswerForm, Operation, Parameter
from gateway.openapi.words import MODELS, SERVER


class Alive(Struct):
    """The process answers."""

    status: Literal["ok"]


class EngineState(Struct):
    """One engine."""

    state: str
    why: str | None


class ReadinessAnswer(Struct):
    """Whether requests can be served."""

    status: Literal["ready", "not ready"]
    state: str
    engines: dict[str, EngineState]
    models: dict[str, bool]
    """Whether a rung of each can serve."""


class ModelReadinessAnswer(Struct):
    """The same of one model."""

    status: Literal["ready", "not ready"]
    state: str
    model: str
    rungs: dict[str, str]


class VersionAnswer(Struct):
    """The version of the program."""

    version: str


_VERSIONED = Parameter(
    "anthropic-version", "header", {"type": "string"}, "With it, the answer has the format of Anthropic's API."
)
_LIMIT = Parameter(
    "limit", "query", {"type": "integer", "minimum": 1, "maximum": MOST_MODELS},
    f"Without it: all, or with `anthropic-version` {DEFAULT_MODELS}.",
)  # fmt: skip
_NAME = Parameter("name", "path", {"type": "string", "minLength": 1}, "It may contain slashes.", "penstock")
_READY: Any = one_of(ReadinessAnswer, ModelReadinessAnswer)
_HEALTH = {
    200: AnswerForm(text="Ready; no body.", content={PLAIN: {"type": "string", "maxLength": 0}}),
    503: AnswerForm(text="Not ready; no body.", content={PLAIN: {"type": "string", "maxLength": 0}}),
}
SERVER_OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/models",
        name="listModels",
        tag=MODELS,
        summary="The models that the key may ask for",
        parameters=(
            _VERSIONED,
            _LIMIT,
            Parameter("after_id", "query", {"type": "string"}, "The id of a model of the list: those behind it."),
            Parameter("before_id", "query", {"type": "string"}, "The same: those before it."),
        ),
        answers=found(one_of(ModelEntries, MessageModels), "The models."),
        errors="both",
    ),
    Operation(
        method="GET",
        path="/v1/models/{name}",
        name="getModel",
        tag=MODELS,
        summary="One model",
        parameters=(_NAME, _VERSIONED),
        answers=found(one_of(ModelEntry, MessageModel), "The model."),
        refused=FIND_ERRORS,
        errors="both",
    ),
    Operation(
        method="GET",
        path="/livez",
        name="getAlive",
        tag=SERVER,
        summary="Whether the process answers",
        answers=found(Alive, "It does."),
        key="none",
    ),
    Operation(
        method="GET",
        path="/readyz",
        name="getReady",
        tag=SERVER,
        summary="Whether requests can be served",
        parameters=(Parameter("model", "query", {"type": "string"}, "Of this model only."),),
        answers={
            200: AnswerForm(text="They can.", content={JSON: _READY}),
            503: AnswerForm(text="They cannot yet, or no more.", content={JSON: _READY}),
        },
        refused=FIND_ERRORS,
        key="none",
    ),
    Operation(
        method="GET", path="/health", name="getHealth", tag=SERVER, summary="The same without a body, as vLLM has it",
        answers=_HEALTH, key="none",
    ),
    Operation(
        method="GET", path="/ping", name="getPing", tag=SERVER, summary="The same, as SageMaker asks it",
        answers=_HEALTH, key="none",
    ),
    Operation(
        method="POST", path="/ping", name="postPing", tag=SERVER, summary="The same, as SageMaker asks it",
        answers=_HEALTH, key="none",
    ),
    Operation(
        method="GET",
        path="/version",
        name="getVersion",
        tag=SERVER,
        summary="The version of the program",
        answers=found(VersionAnswer, "The version."),
        key="none",
    ),
    Operation(
        method="GET",
        path="/metrics",
        name="getMetrics",
        tag=SERVER,
        summary="Metrics for Prometheus",
        text="With a key for metrics or for the admin API: they show the usage of all tenants.",
        answers={200: AnswerForm(text="The text format of Prometheus.", content={PLAIN: {"type": "string"}})},
        key="scraper",
        listener="both",
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        name="getDescription",
        tag=SERVER,
        summary="This document",
        answers={
            200: AnswerForm(text="The document.", content={JSON: {"type": "object"}}, headers=("etag",)),
            304: AnswerForm(text="It is the one that `If-None-Match` names.", headers=("etag",)),
        },
        parameters=(Parameter("If-None-Match", "header", {"type": "string"}, "The `etag` of the document at hand."),),
        key="none",
    ),
    Operation(
        method="GET",
        path="/docs",
        name="getDescriptionPage",
        tag=SERVER,
        summary="This document as a page",
        answers={
            200: AnswerForm(text="The page.", content={HTML: {"type": "string"}}, headers=("etag",)),
            304: AnswerForm(text="It is the one that `If-None-Match` names.", headers=("etag",)),
        },
        parameters=(Parameter("If-None-Match", "header", {"type": "string"}, "The `etag` of the page at hand."),),
        key="none",
    ),
)  # fmt: skip
