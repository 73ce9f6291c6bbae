"""What is stored of a response, and how its items are listed."""

from typing import Any

import msgspec
import pytest

from actors.api.request import AskedResponse
from actors.stored.response_store import StoredItem, StoredResponse
from gateway.errors import BadField
from gateway.responses_api.items import items_of, messages_of
from gateway.responses_api.stored import (
    ItemPage,
    history_of,
    items_of_conversation,
    items_of_response,
    page_from,
    page_of,
    put_response,
    shown_items,
)

OUTPUT = {"id": "msg_r00", "type": "message", "status": "completed", "role": "assistant", "content": []}
BODY = msgspec.json.encode({"id": "resp_r", "status": "completed", "output": [OUTPUT]})
ITEMS = items_of(
    [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"type": "function_call", "id": "fc_mine", "call_id": "c", "name": "now", "arguments": "{}"},
        {"type": "function_call_output", "id": None, "call_id": "c", "output": "noon"},
        {"type": "reasoning", "summary": []},
        {"type": "custom_tool_call", "call_id": "d", "name": "run", "input": "ls"},
        {"type": "custom_tool_call_output", "call_id": "d", "output": "a"},
    ]
)


def test_shown_items_have_ids_and_say_the_same() -> None:
    shown = shown_items("r", ITEMS)
    assert [item["id"] for item in shown] == [
        "msg_ri00", "msg_ri01", "fc_mine", "fco_ri03", "rs_ri04", "ctc_ri05", "ctco_ri06"
    ]  # fmt: skip
    assert [item["content"][0]["type"] for item in shown[:2]] == ["input_text", "output_text"]
    assert messages_of(shown) == messages_of(ITEMS)


def test_a_response_is_stored_with_its_input() -> None:
    asked = AskedResponse({}, ITEMS[:1], tenant="t", stored=True, previous="resp_p")
    put = put_response(BODY, asked)
    assert (put.tenant, put.response.id, put.response.previous, put.added) == ("t", "resp_r", "resp_p", ())
    assert items_of_response(put.response)[0]["id"] == "msg_ri00"
    grows = put_response(BODY, AskedResponse({}, ITEMS[:1], tenant="t", conversation="conv_1"))
    assert grows.conversation == "conv_1"
    assert [item["id"] for item in items_of_conversation(grows.added)] == ["msg_ri00", "msg_r00"]
    failed = BODY.replace(b"completed", b"failed", 1)
    assert put_response(failed, AskedResponse({}, ITEMS[:1], conversation="conv_1")).added == ()


def test_history_is_input_and_output_of_each() -> None:
    stored = [StoredResponse(name, BODY, b'[{"id": "msg_%b"}]' % name.encode()) for name in ("a", "b")]
    assert [item["id"] for item in history_of(stored)] == ["msg_a", "msg_r00", "msg_b", "msg_r00"]
    assert items_of_conversation([StoredItem("x", b'{"id":"x"}')]) == ({"id": "x"},)


LISTED: list[tuple[ItemPage, list[str], bool]] = [
    (ItemPage(), ["c", "b", "a"], False),
    (ItemPage(newest_first=False), ["a", "b", "c"], False),
    (ItemPage(limit=2), ["c", "b"], True),
    (ItemPage(limit=2, after="b"), ["a"], False),
    (ItemPage(limit=1, newest_first=False, after="a"), ["b"], True),
    (ItemPage(after="a"), [], False),
]


@pytest.mark.parametrize(("page", "ids", "more"), LISTED)
def test_pages(page: ItemPage, ids: list[str], more: bool) -> None:
    made = page_from([{"id": name} for name in "abc"], page)
    assert ([item["id"] for item in made["data"]], made["has_more"]) == (ids, more)
    assert (made["first_id"], made["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))


def test_parameters_of_a_page() -> None:
    assert page_of({}) == ItemPage()
    assert page_of({"limit": "7", "order": "asc", "after": "x"}) == ItemPage(7, newest_first=False, after="x")


@pytest.mark.parametrize(
    ("given", "param"),
    [({"limit": "0"}, "limit"), ({"limit": "101"}, "limit"), ({"limit": "-1"}, "limit"), ({"order": "up"}, "order")],
)
def test_wrong_parameters_are_named(given: dict[str, Any], param: str) -> None:
    with pytest.raises(BadField) as refused:
        page_of(given)
    assert refused.value.body.param == param


def test_an_item_that_is_not_there_begins_no_page() -> None:
    with pytest.raises(BadField):
        page_from([], ItemPage(after="x"))
