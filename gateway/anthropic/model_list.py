"""`GET /v1/models` for Anthropic's clients."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from actors.service_view import ModelCard
from gateway.errors import BadField
from gateway.openai.listing import limit_of

MOST_MODELS = 1000
DEFAULT_MODELS = 20
_WORDS = ("limit", "after_id", "before_id")


def model_fields(card: ModelCard) -> dict[str, Any]:
    """One model."""
    return {
        "type": "model",
        "id": card.id,
        "display_name": card.id,
        "created_at": datetime.fromtimestamp(card.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": card.max_model_len,
        "description": card.description,
        "available": card.available,
    }


class ModelPage(NamedTuple):
    """A part of the models."""

    shown: Sequence[ModelCard]
    has_more: bool
    """In the direction of the query."""


def chosen_models(cards: Sequence[ModelCard], query: Mapping[str, str], most: int) -> ModelPage:
    """The models that a query asks for; `most`: without a `limit`. Raises `BadField` for a wrong query."""
    if "limit" in query:
        most = limit_of(query, most, MOST_MODELS)
    first, end = 0, len(cards)
    places = {card.id: index for index, card in enumerate(cards)}
    for name in ("after_id", "before_id"):
        if name in query and query[name] not in places:
            raise BadField(name, f"'{name}' must be the id of a model in the list.")
    if "after_id" in query:
        first = places[query["after_id"]] + 1
    if "before_id" in query:
        end = places[query["before_id"]]
        first = max(first, end - most)
    shown = cards[first:end][:most]
    return ModelPage(shown, first > 0 if "before_id" in query else first + len(shown) < end)


def model_page(cards: Sequence[ModelCard], query: Mapping[str, str]) -> dict[str, Any]:
    """A page of the models. Raises `BadField` for a wrong query."""
    for name in query:
        if name not in _WORDS:
            raise BadField(name[:64], f"The parameters here are {', '.join(_WORDS)}.", "unknown_field")
    page = chosen_models(cards, query, DEFAULT_MODELS)
    shown = [model_fields(card) for card in page.shown]
    return {
        "data": shown,
        "has_more": page.has_more,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }
