"""What is stored of a response and of a conversation, and how their items are shown."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from actors.api.request import AskedResponse
from actors.stored.response_store import PutResponse, StoredItem, StoredResponse
from gateway.openai.json_text import encode
from gateway.openai.listing import limit_of, listed
from gateway.openai.requests.fault import fault

LONGEST_PAGE = 100
ORDERS = ("asc", "desc")
_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "reasoning": "rs",
}
_list = msgspec.json.Decoder(list[dict[str, Any]])
_object = msgspec.json.Decoder(dict[str, Any])


class ItemPage(msgspec.Struct, frozen=True):
    """Which items of a list are asked for."""

    limit: int = 20
    newest_first: bool = True
    after: str = ""
    """The id of an item: those that follow it."""


def shown_items(name: str, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Input items with ids, which begin with `name`, and contents as lists of parts."""
    return [_shown(f"{name}i{index:02x}", item) for index, item in enumerate(items)]


def put_response(body: bytes, asked: AskedResponse) -> PutResponse:
    """How a response that has ended is stored, with its input; in its conversation, too, unless it has failed."""
    response = _object.decode(body)
    response_id = response["id"]
    items = shown_items(response_id.rpartition("_")[2], asked.items)
    grows = asked.conversation and response["status"] in {"completed", "incomplete"}
    added = [*items, *response["output"]] if grows else []
    return PutResponse(
        asked.tenant,
        StoredResponse(response_id, body, encode(items), asked.previous),
        asked.conversation if grows else "",
        stored_items(added),
    )


def stored_items(items: Sequence[Mapping[str, Any]]) -> tuple[StoredItem, ...]:
    """Items that have ids, for a conversation."""
    return tuple([StoredItem(item["id"], encode(item)) for item in items])


def history_of(chain: Sequence[StoredResponse]) -> tuple[Mapping[str, Any], ...]:
    """Input and output items of responses that continue each other."""
    items: list[Mapping[str, Any]] = []
    for response in chain:
        items += _list.decode(response.items)
        items += _object.decode(response.body)["output"]
    return tuple(items)


def items_of_conversation(items: Sequence[StoredItem]) -> tuple[Mapping[str, Any], ...]:
    """The same, read again."""
    return tuple([_object.decode(each.item) for each in items])


def items_of_response(response: StoredResponse) -> list[dict[str, Any]]:
    """Its input."""
    return _list.decode(response.items)


def page_of(parameters: Mapping[str, str]) -> ItemPage:
    """Raises `BadField`."""
    limit, order = limit_of(parameters, 20, LONGEST_PAGE), parameters.get("order", "desc")
    if order not in ORDERS:
        raise fault("order", 'must be "asc" or "desc".')
    return ItemPage(limit, order == "desc", parameters.get("after", ""))


def page_from(items: Sequence[Mapping[str, Any]], page: ItemPage) -> dict[str, Any]:
    """Raises `BadField`."""
    ordered = list(reversed(items)) if page.newest_first else list(items)
    if page.after:
        places = [index for index, item in enumerate(ordered) if item["id"] == page.after]
        if not places:
            raise fault("after", "is not the id of an item of this list.")
        ordered = ordered[places[0] + 1 :]
    return listed(ordered, page.limit)


def _shown(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    kind = item["type"]
    shown = {"id": f"{_PREFIXES[kind]}_{name}", "status": "completed", **item}
    if shown["id"] is None:
        shown["id"] = f"{_PREFIXES[kind]}_{name}"
    if kind == "message" and isinstance(item["content"], str):
        part: dict[str, Any] = {"type": "input_text", "text": item["content"]}
        if item["role"] == "assistant":
            part = {"type": "output_text", "text": item["content"], "annotations": [], "logprobs": []}
        shown["content"] = [part]
    return shown
