"""The message that answers, as a whole, and the parts that it shares with a stream."""

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.api.request import ParsedBody
from actors.api.response import MadeCall, Served, Usage
from gateway.openai.json_text import encode
from gateway.openai.responses.completion import Choice, Identity

REFUSED = "content_filter"
_STOP_REASONS = {"length": "max_tokens", REFUSED: "refusal", "tool_calls": "tool_use"}


def message_fields(identity: Identity, content: Sequence[Any], end: dict[str, Any], usage: Usage) -> dict[str, Any]:
    """A `message`; `end`: its `stop_fields`."""
    return {
        "id": f"msg_{identity.request_id}",
        "type": "message",
        "role": "assistant",
        "model": identity.model,
        "content": content,
        **end,
        "usage": usage_counts(usage),
    }


def usage_counts(usage: Usage) -> dict[str, int]:
    """`usage`: the tokens of the prompt that were read from the prefix cache are counted apart."""
    # A rung with another tokenizer may have read more from its cache than the prompt counts for.
    read = min(usage.cached_tokens, usage.prompt_tokens)
    return {
        "input_tokens": usage.prompt_tokens - read,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": read,
        "output_tokens": usage.completion_tokens,
    }


def stop_fields(reason: str | None, stop: str | int | None, stops: Sequence[str]) -> dict[str, Any]:
    """`stop_reason` and `stop_sequence`. `stop`: at which the answer ended; `stops`: the client's."""
    if reason is None:
        return {"stop_reason": None, "stop_sequence": None}
    # Upstreams may write anything there.
    if reason == "stop" and stop in stops:
        return {"stop_reason": "stop_sequence", "stop_sequence": stop}
    return {"stop_reason": _STOP_REASONS.get(reason, "end_turn"), "stop_sequence": None}


def tool_use(call: MadeCall, arguments: Any) -> dict[str, Any]:
    """A block for a call; `arguments` become its `input`."""
    fields = {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}
    return fields if call.extra is None else {**fields, "extra_content": call.extra}


def message_body(
    identity: Identity, choices: Sequence[Choice], usage: Usage, served: Served, body: ParsedBody
) -> bytes:
    """The body of an answer that is not streamed."""
    choice = choices[0]
    content: list[dict[str, Any]] = []
    if body.view.reasoning and (reasoning := "".join(choice.reasoning)):
        content.append({"type": "thinking", "thinking": reasoning, "signature": ""})
    if text := "".join(choice.texts):
        content.append({"type": "text", "text": text})
    content += [tool_use(call, msgspec.Raw(call.arguments.encode())) for call in choice.calls]
    reason = REFUSED if choice.refuses and choice.finish_reason == "stop" else choice.finish_reason
    end = stop_fields(reason, choice.stop, body.params.stop)
    return encode({**message_fields(identity, content, end, usage), "penstock": served})
