"""OpenAI's Responses API, with conversations."""

from typing import Any

from gateway.endpoints.operations.common import (
    FIND_ERRORS,
    MODEL,
    MODEL_ERRORS,
    QUESTION,
    WEATHER_SCHEMA,
    found,
    made_by_model,
)
from gateway.endpoints.operations.kept_answers import BEGUN
from gateway.endpoints.responses.responses import STARTING_AFTER
from gateway.openai.requests.json_body import whole_body
from gateway.openapi.headers import KEEPING, POLICY_TAGS, READ_AGAIN, SERVED
from gateway.openapi.operation import EVENTS, JSON, AnswerForm, Operation, Parameter, Parts
from gateway.openapi.words import RESPONSES
from gateway.responses_api.answer_types import (
    ConversationAnswer,
    DeletedConversation,
    DeletedResponse,
    InputTokens,
    ItemList,
    ResponseAnswer,
)
from gateway.responses_api.conversations import ConversationFields
from gateway.responses_api.event_types import ResponseStreamEvent
from gateway.responses_api.items import ITEM_KINDS
from gateway.responses_api.request_body import ResponseBody
from gateway.responses_api.stored import LONGEST_PAGE, ORDERS
from gateway.responses_api.tools import TOOL_KINDS, ToolChoice

_WORD = {"type": "string", "minLength": 1, "pattern": "^[^/]+$"}
_ID = Parameter("response_id", "path", _WORD)
_CONVERSATION = Parameter("conversation_id", "path", _WORD)
_ITEM = Parameter("item_id", "path", _WORD)
_PAGE = (
    Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": LONGEST_PAGE, "default": 20}),
    Parameter("order", "query", {"type": "string", "enum": list(ORDERS), "default": "desc"}),
    Parameter("after", "query", {"type": "string"}, "The id of an item: those that follow it."),
)
_PARTS = (
    Parts(ResponseBody, "input", ITEM_KINDS, default="message"),
    Parts(ResponseBody, "tools", TOOL_KINDS),
    Parts(ResponseBody, "tool_choice", dict.fromkeys(("function", "custom", "allowed_tools"), ToolChoice)),
)
_ITEMS = (Parts(ConversationFields, "items", ITEM_KINDS, default="message"),)
_ASK: dict[str, Any] = {"model": MODEL, "input": "What is 17 + 25?", "max_output_tokens": 16}
_TOOL = {"type": "function", "name": "get_weather", "description": "The weather", "parameters": WEATHER_SCHEMA}
_TO_RESPONSE = {
    name: {"response_id": "$response.body#/id"}
    for name in ("getResponse", "listInputItems", "cancelResponse", "deleteResponse")
}
_TO_CONVERSATION = {
    name: {"conversation_id": "$response.body#/id"}
    for name in ("getConversation", "changeConversation", "listItems", "addItems", "deleteConversation")
}
_TO_ITEM = {
    name: {"conversation_id": "$request.path.conversation_id", "item_id": "$response.body#/data/0/id"}
    for name in ("getItem", "deleteItem")
}
_MESSAGE = {"type": "message", "role": "user", "content": "What is 17 + 25?"}
RESPONSE_OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/responses",
        name="createResponse",
        tag=RESPONSES,
        summary="Answer, and store the answer",
        text="Stored responses belong to the key's tenant. A server may store none; then `store` has no effect.",
        body=whole_body(ResponseBody),
        parts=_PARTS,
        examples={
            "question": _ASK,
            "stream": {**_ASK, "stream": True},
            "items": {**_ASK, "input": QUESTION, "instructions": "Be brief."},
            "tools": {**_ASK, "max_output_tokens": 64, "tools": [_TOOL]},
            "background": {**_ASK, "background": True},
        },
        parameters=KEEPING,
        answers={200: made_by_model(ResponseAnswer, ResponseStreamEvent, _TO_RESPONSE), 202: BEGUN},
        refused=MODEL_ERRORS,
    ),
    Operation(
        method="GET",
        path="/v1/responses",
        name="openResponses",
        tag=RESPONSES,
        summary="The Responses API on a WebSocket",
        text="A WebSocket handshake. Requests are `response.create` messages; the answers are the events of a stream.",
        answers={101: AnswerForm(text="The connection is a WebSocket now.")},
        refused=frozenset({426}),
    ),
    Operation(
        method="POST",
        path="/v1/responses/input_tokens",
        name="countInputTokens",
        tag=RESPONSES,
        summary="How long a prompt is",
        body=whole_body(ResponseBody),
        parts=_PARTS,
        examples={"question": {"model": MODEL, "input": "What is 17 + 25?"}},
        parameters=(POLICY_TAGS,),
        answers=found(InputTokens, "The number of tokens."),
        refused=MODEL_ERRORS,
    ),
    Operation(
        method="GET",
        path="/v1/responses/{response_id}",
        name="getResponse",
        tag=RESPONSES,
        summary="A stored response, or one that runs",
        parameters=(
            _ID,
            Parameter("stream", "query", {"type": "boolean"}, "Its events, of a response in the background."),
            Parameter(
                STARTING_AFTER,
                "query",
                {"type": "integer", "minimum": 0, "exclusiveMaximum": 10**15},
                "The `sequence_number` of the last event that came; needs `stream`.",
            ),
        ),
        answers={
            200: AnswerForm(
                text="The response, or its events.",
                content={JSON: ResponseAnswer, EVENTS: ResponseStreamEvent},
                headers=(*SERVED, *READ_AGAIN),
            )
        },
        refused=FIND_ERRORS | {409, 422, 504},
    ),
    Operation(
        method="DELETE",
        path="/v1/responses/{response_id}",
        name="deleteResponse",
        tag=RESPONSES,
        summary="Forget a response",
        parameters=(_ID,),
        answers=found(DeletedResponse, "It is forgotten."),
        refused=FIND_ERRORS,
    ),
    Operation(
        method="POST",
        path="/v1/responses/{response_id}/cancel",
        name="cancelResponse",
        tag=RESPONSES,
        summary="End a response in the background",
        parameters=(_ID,),
        answers=found(ResponseAnswer, "The response as it ended."),
        refused=FIND_ERRORS | {415},
    ),
    Operation(
        method="GET",
        path="/v1/responses/{response_id}/input_items",
        name="listInputItems",
        tag=RESPONSES,
        summary="What a response was asked",
        parameters=(_ID, *_PAGE),
        answers=found(ItemList, "A page of items."),
        refused=FIND_ERRORS,
    ),
    Operation(
        method="POST",
        path="/v1/conversations",
        name="createConversation",
        tag=RESPONSES,
        summary="Begin a conversation",
        body=whole_body(ConversationFields),
        body_optional=True,
        parts=_ITEMS,
        examples={"items": {"items": [_MESSAGE], "metadata": {"topic": "sums"}}, "empty": {}},
        answers={200: AnswerForm(text="The conversation.", content={JSON: ConversationAnswer}, links=_TO_CONVERSATION)},
    ),
    Operation(
        method="GET",
        path="/v1/conversations/{conversation_id}",
        name="getConversation",
        tag=RESPONSES,
        summary="A conversation",
        parameters=(_CONVERSATION,),
        answers=found(ConversationAnswer, "The conversation."),
        refused=FIND_ERRORS,
    ),
    Operation(
        method="POST",
        path="/v1/conversations/{conversation_id}",
        name="changeConversation",
        tag=RESPONSES,
        summary="Change what a conversation says of itself",
        body=whole_body(ConversationFields),
        body_optional=True,
        parts=_ITEMS,
        examples={"metadata": {"metadata": {"topic": "sums"}}},
        parameters=(_CONVERSATION,),
        answers=found(ConversationAnswer, "The conversation."),
        refused=FIND_ERRORS,
    ),
    Operation(
        method="DELETE",
        path="/v1/conversations/{conversation_id}",
        name="deleteConversation",
        tag=RESPONSES,
        summary="Forget a conversation",
        parameters=(_CONVERSATION,),
        answers=found(DeletedConversation, "It is forgotten."),
        refused=FIND_ERRORS,
    ),
    Operation(
        method="GET",
        path="/v1/conversations/{conversation_id}/items",
        name="listItems",
        tag=RESPONSES,
        summary="What was said",
        parameters=(_CONVERSATION, *_PAGE),
        answers=found(ItemList, "A page of items."),
        refused=FIND_ERRORS,
    ),
    Operation(
        method="POST",
        path="/v1/conversations/{conversation_id}/items",
        name="addItems",
        tag=RESPONSES,
        summary="Add to a conversation",
        body=whole_body(ConversationFields),
        needs=("items",),
        parts=_ITEMS,
        examples={"message": {"items": [_MESSAGE]}},
        parameters=(_CONVERSATION,),
        answers={
            200: AnswerForm(text="The items with their ids.", content={JSON: ItemList}, links=_TO_ITEM),
        },
        refused=FIND_ERRORS,
    ),
    Operation(
        method="GET",
        path="/v1/conversations/{conversation_id}/items/{item_id}",
        name="getItem",
        tag=RESPONSES,
        summary="One item",
        parameters=(_CONVERSATION, _ITEM),
        answers=found({"type": "object", "required": ["id", "type"]}, "The item."),
        refused=FIND_ERRORS,
    ),
    Operation(
        method="DELETE",
        path="/v1/conversations/{conversation_id}/items/{item_id}",
        name="deleteItem",
        tag=RESPONSES,
        summary="Remove an item",
        parameters=(_CONVERSATION, _ITEM),
        answers=found(ConversationAnswer, "The conversation."),
        refused=FIND_ERRORS,
    ),
)
