"""The answers of vLLM's addresses as types, of which the API's description is made; tests hold both to each other."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from actors.api.response import Served
from gateway.openai.responses.answer_types import PromptUsage, TokenUsage


class RankedDocument(Struct, kw_only=True):
    """One document and how relevant it is."""

    index: int
    """Among the documents of the request."""
    relevance_score: float
    document: dict[str, Any] | UnsetType = UNSET
    """With `return_documents`."""


class RerankAnswer(Struct):
    """The documents, the best one first."""

    id: str
    model: str
    results: list[RankedDocument]
    usage: PromptUsage
    penstock: Served


class PairScore(Struct):
    """How similar two texts are."""

    index: int
    object: Literal["score"]
    score: float


class ScoreAnswer(Struct):
    """A score for each pair, in their order."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[PairScore]
    usage: TokenUsage
    penstock: Served


class TextLabel(Struct):
    """The best label of one text."""

    index: int
    label: str
    probs: list[float]
    num_classes: int


class ClassifyAnswer(Struct):
    """The labels of the texts, in their order."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[TextLabel]
    usage: TokenUsage
    penstock: Served


class TokenizeAnswer(Struct):
    """A prompt's tokens."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeAnswer(Struct):
    """The text of tokens."""

    prompt: str
