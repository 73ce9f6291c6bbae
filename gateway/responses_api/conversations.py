"""Conversations: the bodies of requests about them, and how they are shown."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from gateway.errors import BadField
from gateway.openai.requests.fault import fault
from gateway.openai.requests.forwarded_fields import LABELS
from gateway.openai.requests.neutral import field_schema
from gateway.responses_api.items import items_of, messages_of
from gateway.responses_api.stored import shown_items

_MOST_ITEMS = 20
"""Of one request, as in the OpenAI API."""


class ConversationFields(msgspec.Struct, forbid_unknown_fields=True):
    """The body of every request that has one."""

    items: Annotated[list[dict[str, Any]] | None, field_schema(maxItems=_MOST_ITEMS)] = None
    metadata: Annotated[Any, field_schema(anyOf=[LABELS.schema, {"type": "null"}])] = None


class ConversationChange(msgspec.Struct, frozen=True):
    """What a request asks for, checked."""

    items: tuple[Mapping[str, Any], ...]
    """With ids."""
    metadata: Mapping[str, str]


def read_conversation(body: ConversationFields, name: str) -> ConversationChange:
    """`name`: begins the ids of new items. Raises `BadField`."""
    metadata = {} if body.metadata is None else body.metadata
    if not LABELS(metadata):
        raise fault("metadata", "must have at most 16 names of 64 characters, with texts of 512.")
    given = body.items or []
    if len(given) > _MOST_ITEMS:
        raise fault("items", f"must hold at most {_MOST_ITEMS} items.")
    items = items_of(given)
    messages_of(items, "items")
    return ConversationChange(tuple(shown_items(name, items)), metadata)


def check_items(change: ConversationChange) -> None:
    """Raises `BadField` if there are none."""
    if not change.items:
        raise BadField("items", "The field 'items' is missing.", "missing_field")


def conversation_fields(conversation_id: str, created: int, metadata: Mapping[str, str]) -> dict[str, Any]:
    """A conversation as it is shown and stored."""
    return {"id": conversation_id, "object": "conversation", "created_at": created, "metadata": metadata}
