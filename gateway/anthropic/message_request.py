"""`POST /v1/messages` and `POST /v1/messages/count_tokens`: the body, checked."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from actors.api.request import ChatPrompt, ParsedBody, View
from engine.sampling.grammar import Grammar
from engine.text.tool_calls import Tool
from gateway.anthropic.blocks import Content
from gateway.anthropic.effort import EFFORTS, Reasoning, Thinking, reasoning_of
from gateway.anthropic.errors import NO_THREADS
from gateway.anthropic.message_tools import MessageToolChoice, chosen_tools, offered_tools
from gateway.anthropic.turns import MessageTurn, conversation
from gateway.errors import BadField
from gateway.openai.requests.chat_request import MAX_MESSAGES
from gateway.openai.requests.fault import fault
from gateway.openai.requests.grammar_request import schema_grammar
from gateway.openai.requests.json_body import GivenFields
from gateway.openai.requests.neutral import NOTHING, Neutral, any_of, field_schema, field_schemas
from gateway.openai.requests.reasoning_request import ReasoningFields, with_reasoning
from gateway.openai.requests.sampling import SamplingBody, StopList, sampling_params, stops_of
from policies.errors import unsupported

_TIERS = {"auto": None, "standard_only": "default"}
"""`service_tier`, and what it is for upstreams."""
_MAX_TEMPERATURE = 1
_KEEPS_ALL = Neutral(
    lambda value: isinstance(value, dict) and _keeps_all(value.get("edits", [])),
    {
        "type": "object",
        "properties": {
            "edits": {
                "type": "array",
                "items": {"type": "object", "properties": {"keep": {"const": "all"}}, "required": ["keep"]},
            }
        },
    },
)
_NEUTRAL: Mapping[str, Neutral] = {
    "container": NOTHING,
    "context_management": _KEEPS_ALL,
    "diagnostics": any_of({"previous_message_id": None}),
    "fallbacks": any_of([]),
    "inference_geo": any_of("global"),
    "mcp_servers": any_of([]),
    "output_format": NOTHING,
    "speed": any_of("standard"),
    "thread": NOTHING,
}
"""Fields that this server does not have, and which of their values have no effect."""


class OutputFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`output_config.format`."""

    type: Annotated[str, field_schema(enum=["json_schema"])]
    schema: dict[str, Any] | None = None


_FormatField = Annotated[
    OutputFormat | None, field_schema(required=["schema"], properties={"schema": {"type": "object"}})
]


class OutputConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`output_config`."""

    effort: Annotated[str | None, field_schema(enum=[*EFFORTS, None])] = None
    format: _FormatField = None


class MessageMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`metadata`."""

    user_id: str | None = None


_NO_CONFIG = OutputConfig()
_REASONING = ReasoningFields("thinking", "output_config.effort", "thinking.budget_tokens")


class MessagesBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body; `null` counts as absent in every field."""

    forwarded = field_schemas(_NEUTRAL)
    model: str
    messages: Annotated[list[MessageTurn], field_schema(minItems=1, maxItems=MAX_MESSAGES)]
    max_tokens: Annotated[int | None, field_schema(minimum=1, exclusiveMaximum=2**31)] = None
    """Required, except to count tokens."""
    system: Content | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: MessageToolChoice | None = None
    stop_sequences: StopList = None
    stream: bool | None = None
    temperature: Annotated[float | None, field_schema(minimum=0, maximum=_MAX_TEMPERATURE)] = None
    top_p: Annotated[float | None, field_schema(exclusiveMinimum=0, maximum=1)] = None
    top_k: Annotated[int | None, field_schema(minimum=-1)] = None
    metadata: MessageMetadata | None = None
    service_tier: Annotated[str | None, field_schema(enum=[*_TIERS, None])] = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: dict[str, Any] | None = None
    """As if it were in the last block."""


def read_message(body: MessagesBody, given: GivenFields, max_choices: int = 1) -> ParsedBody:
    """Raises `BadField`."""
    del max_choices
    if body.max_tokens is None:
        raise BadField("max_tokens", "The field 'max_tokens' is missing.", "missing_field")
    return read_count(body, given)


def read_count(body: MessagesBody, given: GivenFields) -> ParsedBody:
    """The same without `max_tokens`. Raises `BadField`."""
    for name, accepts in _NEUTRAL.items():
        value = given.get(name)
        if value is not None and not accepts(value):
            raise BadField(name, unsupported(name), NO_THREADS if name == "thread" else "unsupported_parameter")
    if body.temperature is not None and not 0 <= body.temperature <= _MAX_TEMPERATURE:
        raise fault("temperature", f"must be between 0 and {_MAX_TEMPERATURE}, not {body.temperature:g}.")
    config = body.output_config or _NO_CONFIG
    reasoning = reasoning_of(body.thinking, config.effort, body.max_tokens)
    offered = offered_tools(body.tools or ())
    tools = chosen_tools(offered, body.tool_choice)
    view = View(may_call=tools is not None, reasoning=reasoning.shown)
    sampling = SamplingBody(
        model=body.model,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        stop=None if body.stop_sequences is None else list(stops_of("stop_sequences", body.stop_sequences)),
    )
    parsed = ParsedBody(
        model=body.model,
        prompts=(ChatPrompt(conversation(body.system, body.messages, body.cache_control), tools),),
        params=sampling_params(sampling, max_tokens=body.max_tokens, default_max_tokens=0, view=view),
        grammar=_grammar(config.format),
        streamed=bool(body.stream),
        view=view,
        user=None if body.metadata is None else body.metadata.user_id,
        written=_for_upstreams(body, reasoning, offered if tools is None else ()),
    )
    thinking = False if reasoning.effort == "none" else (True if reasoning.budget else None)
    return with_reasoning(parsed, _REASONING, thinking, reasoning.asked, reasoning.budget)


def _grammar(requested: OutputFormat | None) -> Grammar | None:
    if requested is None:
        return None
    where = "output_config.format"
    if requested.type != "json_schema":
        raise fault(f"{where}.type", 'must be "json_schema".')
    if requested.schema is None:
        raise BadField(f"{where}.schema", f"The field '{where}.schema' is missing.", "missing_field")
    return schema_grammar(requested.schema, f"{where}.schema")


def _for_upstreams(body: MessagesBody, reasoning: Reasoning, uncalled: tuple[Tool, ...]) -> dict[str, Any]:
    """Fields beside the prompt as an OpenAI-compatible upstream has them. `uncalled`: tools that must not be called."""
    if body.service_tier is not None and body.service_tier not in _TIERS:
        raise fault("service_tier", 'must be "auto" or "standard_only".')
    fields = {
        "temperature": body.temperature,
        "top_p": body.top_p,
        "user": None if body.metadata is None else body.metadata.user_id,
        "service_tier": _TIERS.get(body.service_tier or "auto"),
        "reasoning_effort": reasoning.effort,
        # The conversation may hold calls of them, which some upstreams take only with their definitions.
        "tools": [tool.definition for tool in uncalled] or None,
        "tool_choice": "none" if uncalled else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _keeps_all(edits: Any) -> bool:
    """Whether nothing is taken out of the conversation."""
    return isinstance(edits, list) and all(isinstance(each, dict) and each.get("keep") == "all" for each in edits)
