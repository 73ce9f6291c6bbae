"""The answer of `/v1/moderations` as types, for the API's description; `moderation.py` writes it."""

from msgspec import Struct

from actors.api.response import Served
from gateway.openai.responses.answer_types import TokenUsage


class ModerationResult(Struct, kw_only=True):
    """What was found in one text, by category: OpenAI's and those of the server's configuration."""

    flagged: bool
    """A category is."""
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]
    """An empty list: the category was not judged."""


class ModerationAnswer(Struct, kw_only=True):
    """The results of all texts, in their order."""

    id: str
    model: str
    results: list[ModerationResult]
    usage: TokenUsage
    penstock: Served
