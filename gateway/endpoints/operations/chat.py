"""OpenAI's chat completions, completions and embeddings, and the WebSocket for many requests."""

from gateway.endpoints.operations.common import (
    LAST_EVENT,
    MODEL,
    MODEL_ERRORS,
    QUESTION,
    WEATHER_SCHEMA,
    made_by_model,
    one_of,
)
from gateway.endpoints.operations.kept_answers import BEGUN
from gateway.openai.requests.chat_request import ChatBody
from gateway.openai.requests.completion_request import CompletionBody
from gateway.openai.requests.embedding_request import EmbeddingBody
from gateway.openai.requests.json_body import whole_body
from gateway.openai.responses.answer_types import (
    ChatChunk,
    ChatCompletion,
    EmbeddingList,
    ErrorAnswer,
    TextChunk,
    TextCompletion,
)
from gateway.openapi.headers import KEEPING, POLICY_TAGS
from gateway.openapi.operation import AnswerForm, Operation
from gateway.openapi.words import CHAT, EMBEDDINGS

_TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city", "parameters": WEATHER_SCHEMA},
}
CHAT_OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/chat/completions",
        name="createChatCompletion",
        tag=CHAT,
        summary="Answer a conversation",
        text="OpenAI's chat completions, with vLLM's sampling fields. Fields that no engine here supports are accepted "
        "with values that change nothing, forwarded to an upstream that may support them, and otherwise refused.",
        body=whole_body(ChatBody),
        examples={
            "question": {"model": MODEL, "messages": QUESTION, "max_tokens": 16},
            "stream": {
                "model": MODEL,
                "messages": QUESTION,
                "max_tokens": 16,
                "stream": True,
                "stream_options": {"include_usage": True},
            },
            "json": {
                "model": MODEL,
                "messages": QUESTION,
                "max_tokens": 16,
                "response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": WEATHER_SCHEMA}},
            },
            "tools": {"model": MODEL, "messages": QUESTION, "max_tokens": 64, "tools": [_TOOL], "tool_choice": "auto"},
            "logprobs": {"model": MODEL, "messages": QUESTION, "max_tokens": 4, "logprobs": True, "top_logprobs": 2},
        },
        parameters=KEEPING,
        answers={200: made_by_model(ChatCompletion, one_of(ChatChunk, ErrorAnswer), last_event=LAST_EVENT), 202: BEGUN},
        refused=MODEL_ERRORS,
    ),
    Operation(
        method="POST",
        path="/v1/completions",
        name="createCompletion",
        tag=CHAT,
        summary="Continue a text",
        body=whole_body(CompletionBody),
        examples={
            "text": {"model": MODEL, "prompt": "17 + 25 =", "max_tokens": 8},
            "stream": {"model": MODEL, "prompt": "17 + 25 =", "max_tokens": 8, "stream": True},
            "scored": {"model": MODEL, "prompt": "17 + 25 =", "max_tokens": 1, "echo": True, "logprobs": 1},
        },
        parameters=KEEPING,
        answers={200: made_by_model(TextCompletion, one_of(TextChunk, ErrorAnswer), last_event=LAST_EVENT), 202: BEGUN},
        refused=MODEL_ERRORS,
    ),
    Operation(
        method="GET",
        path="/v1/stream",
        name="openStream",
        tag=CHAT,
        summary="Many requests on one WebSocket",
        text="A WebSocket handshake. Each message is one JSON object and names its request by an `id` of the client's.",
        answers={101: AnswerForm(text="The connection is a WebSocket now.")},
        refused=frozenset({426}),
    ),
    Operation(
        method="POST",
        path="/v1/embeddings",
        name="createEmbeddings",
        tag=EMBEDDINGS,
        summary="The vectors of texts",
        body=whole_body(EmbeddingBody),
        examples={
            "texts": {"model": "minilm", "input": ["A river", "A stream"]},
            "base64": {"model": "minilm", "input": "A river", "encoding_format": "base64"},
        },
        parameters=(POLICY_TAGS,),
        answers={200: made_by_model(EmbeddingList)},
        refused=MODEL_ERRORS,
    ),
)
