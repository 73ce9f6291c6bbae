"""What several operations share."""

from collections.abc import Mapping
from typing import Any

from gateway.openapi.headers import READ_AGAIN, SERVED
from gateway.openapi.operation import EVENTS, JSON, AnswerForm, OneOf

MODEL_ERRORS = frozenset({404, 409, 422, 504})
"""Of requests that a model answers."""
FIND_ERRORS = frozenset({404})
QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
LAST_EVENT = "[DONE]"
"""Of streams of the OpenAI API."""
MODEL = "penstock"
"""The name in the examples: one that the server has without a configuration."""
WEATHER_SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def made_by_model(
    whole: Any,
    event: Any | None = None,
    links: Mapping[str, Mapping[str, str]] | None = None,
    *,
    last_event: str = "",
) -> AnswerForm:
    """An answer that a model makes; `event`: the data of an event, with `"stream": true`."""
    content = {JSON: whole} if event is None else {JSON: whole, EVENTS: event}
    text = "The whole answer." if event is None else "The whole answer; with `stream`, its events."
    headers = (*SERVED, *READ_AGAIN)
    return AnswerForm(text=text, content=content, headers=headers, links=links or {}, last_event=last_event)


def found(content: Any, text: str = "Found.") -> dict[int, AnswerForm]:
    """One answer with JSON."""
    return {200: AnswerForm(text=text, content={JSON: content})}


def one_of(*types: Any) -> OneOf:
    """Any of these types."""
    return OneOf(types)
