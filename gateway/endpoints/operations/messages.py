"""Anthropic's Messages API."""

from typing import Any

from gateway.anthropic.answer_types import AnthropicMessage, MessageEvent, MessageTokens
from gateway.anthropic.blocks import PART_KINDS, BlockSource
from gateway.anthropic.message_request import MessagesBody
from gateway.anthropic.message_tools import MessageTool
from gateway.anthropic.turns import BLOCK_KINDS, MessageTurn
from gateway.endpoints.operations.common import MODEL, MODEL_ERRORS, QUESTION, WEATHER_SCHEMA, found, made_by_model
from gateway.endpoints.operations.kept_answers import BEGUN
from gateway.openai.requests.json_body import whole_body
from gateway.openapi.headers import KEEPING, POLICY_TAGS
from gateway.openapi.operation import Operation, Parts
from gateway.openapi.words import MESSAGES

_PARTS = (
    Parts(MessageTurn, "content", BLOCK_KINDS),
    Parts(BLOCK_KINDS["tool_result"], "content", PART_KINDS),
    Parts(BlockSource, "content", PART_KINDS),
    Parts(MessagesBody, "system", {"text": BLOCK_KINDS["text"]}),
    Parts(MessagesBody, "tools", {"custom": MessageTool}, default="custom"),
)
_ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 16, "messages": QUESTION}
_TOOL = {"name": "get_weather", "description": "The weather in a city", "input_schema": WEATHER_SCHEMA}
MESSAGE_OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/messages",
        name="createMessage",
        tag=MESSAGES,
        summary="Answer a conversation",
        body=whole_body(MessagesBody),
        needs=("max_tokens",),
        parts=_PARTS,
        examples={
            "question": _ASK,
            "stream": {**_ASK, "stream": True},
            "tools": {**_ASK, "system": "Be brief.", "tools": [_TOOL], "tool_choice": {"type": "auto"}},
            "result": {
                "model": MODEL,
                "max_tokens": 16,
                "messages": [
                    *QUESTION,
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 17, "b": 25}}],
                    },
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "42"}]},
                ],
            },
        },
        parameters=KEEPING,
        answers={200: made_by_model(AnthropicMessage, MessageEvent), 202: BEGUN},
        refused=MODEL_ERRORS,
        errors="anthropic",
    ),
    Operation(
        method="POST",
        path="/v1/messages/count_tokens",
        name="countMessageTokens",
        tag=MESSAGES,
        summary="How long a prompt is",
        body=whole_body(MessagesBody),
        parts=_PARTS,
        examples={"question": {"model": MODEL, "messages": QUESTION}},
        parameters=(POLICY_TAGS,),
        answers=found(MessageTokens, "The number of tokens."),
        refused=MODEL_ERRORS,
        errors="anthropic",
    ),
)
