"""`POST /v1/responses`: the body, checked."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from actors.api.request import AskedResponse, ChatMessage, ChatPrompt, ParsedBody, View
from engine.sampling.grammar import Grammar
from gateway.errors import BadField
from gateway.openai.requests.fault import fault
from gateway.openai.requests.forwarded_fields import FOR_UPSTREAMS, needs_upstream
from gateway.openai.requests.forwarded_fields import RESPONSES as RESPONSES_FIELDS
from gateway.openai.requests.grammar_request import answer_grammar, schema_grammar
from gateway.openai.requests.json_body import GivenFields
from gateway.openai.requests.neutral import Schema, any_of, field_schema, field_schemas
from gateway.openai.requests.reasoning_request import ReasoningFields, ReasoningTokens, with_reasoning
from gateway.openai.requests.sampling import Alternatives, SamplingBody, check_logprobs, parsed_body, sampling_params
from gateway.openai.requests.tools_request import ToolWord
from gateway.responses_api.items import check_answers, items_of, messages_of
from gateway.responses_api.tools import tool_set

_LOGPROBS = "message.output_text.logprobs"
Include = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]
"""Only the first adds something: reasoning is in its item as text, and the others belong to tools and images that are
refused."""
_ELSEWHERE = {
    "max_tokens": "use 'max_output_tokens'.",
    "n": "a response has one answer.",
    "response_format": "use 'text.format'.",
    "echo": "a response does not repeat its prompt.",
    "prompt_logprobs": "a response has none: use /v1/chat/completions.",
}
"""Fields of the other endpoints."""
_REFUSED = field_schemas({
    **dict.fromkeys(_ELSEWHERE, any_of(False)),
    "n": any_of(1),
    "truncation": any_of("disabled"),
})  # fmt: skip
_READ_HERE = frozenset({
    "background",
    "conversation",
    "generate",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_options",
    "reasoning",
    "store",
    "stream_id",
    "text",
    "tool_choice",
    "tools",
    "truncation",
})  # fmt: skip
"""Fields that upstreams, which are asked for chat completions, do not get as they are."""


class TextFormat(msgspec.Struct, forbid_unknown_fields=True):
    """`text.format`."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class TextBody(msgspec.Struct, forbid_unknown_fields=True):
    """`text`."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


_PLAIN = {"summary": "auto", "generate_summary": "auto", "context": "auto", "mode": "standard"}
"""Fields of `reasoning` with the only value that each may have."""


def _plain(name: str) -> msgspec.Meta:
    return field_schema(enum=[_PLAIN[name], None])


class ReasoningBody(msgspec.Struct, forbid_unknown_fields=True):
    """`reasoning`."""

    effort: str | None = None
    summary: Annotated[Literal["auto", "concise", "detailed"] | None, _plain("summary")] = None
    generate_summary: Annotated[Literal["auto", "concise", "detailed"] | None, _plain("generate_summary")] = None
    context: Annotated[str | None, _plain("context")] = None
    mode: Annotated[str | None, _plain("mode")] = None
    max_tokens: ReasoningTokens = None
    """Most tokens of the reasoning; not OpenAI's."""


_NO_REASONING = ReasoningBody()
_REASONING = ReasoningFields("reasoning", "reasoning.effort", "reasoning.max_tokens")


class ConversationBody(msgspec.Struct, forbid_unknown_fields=True):
    """`conversation` as an object."""

    id: str


class ResponseBody(SamplingBody, kw_only=True):
    """The body of a request for a response. The sampling fields beyond OpenAI's are those of chat completions."""

    forwarded: ClassVar[Mapping[str, Schema]] = {**field_schemas(RESPONSES_FIELDS, FOR_UPSTREAMS), **_REFUSED}
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    background: bool | None = None
    conversation: str | ConversationBody | None = None
    include: list[Include] | None = None
    max_output_tokens: Annotated[int | None, field_schema(minimum=1, exclusiveMaximum=2**31)] = None
    max_tool_calls: int | None = None
    """Without effect: it counts calls of tools that run on the server."""
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    reasoning: ReasoningBody | None = None
    store: bool | None = None
    text: TextBody | None = None
    tool_choice: ToolWord | dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    top_logprobs: Alternatives = None
    truncation: Literal["auto", "disabled"] | None = None


def read_response(body: ResponseBody, given: GivenFields, _: int = 1) -> ParsedBody:
    """The request, whose prompt lacks what was stored of the conversation before. Raises `BadField`."""
    for name, instead in _ELSEWHERE.items():
        value = getattr(body, name)
        if value is not None and value is not False and not (name == "n" and value == 1):
            raise fault(name, f"is not a field of this endpoint: {instead}", "unsupported_parameter")
    if body.truncation == "auto":
        raise fault(
            "truncation", 'must be "disabled": no part of the input is left out. Send less.', "unsupported_parameter"
        )
    needs, forwarded = needs_upstream(given, RESPONSES_FIELDS), _reasoning(body.reasoning)
    verbosity = body.text.verbosity if body.text is not None else None
    if verbosity is not None:
        forwarded["verbosity"] = verbosity
        needs += ("text.verbosity",) if verbosity != "medium" else ()
    form = body.text.format if body.text is not None else None
    grammar = None
    if form is not None and form.type != "text":
        grammar, forwarded["response_format"] = _grammar(form)
    also = answer_grammar(body)
    if grammar is not None and also is not None:
        raise fault(also.param, "and 'text.format' contradict each other: give one of them.")
    view, asked = _view(body), _asked(body, given)
    limit = "max_output_tokens"
    params = sampling_params(body, max_tokens=body.max_output_tokens, default_max_tokens=0, view=view, limit=limit)
    parsed = parsed_body(body, given, needs, (_prompt(body, asked),), params, 1, view, grammar or also)
    thought = body.reasoning or _NO_REASONING
    thinking = False if thought.effort == "none" else None
    parsed = with_reasoning(parsed, _REASONING, thinking, thought.effort, thought.max_tokens)
    written = {name: value for name, value in parsed.written.items() if name not in _READ_HERE}
    return msgspec.structs.replace(
        parsed,
        response=asked,
        written=written | forwarded,
        conversation=parsed.conversation or asked.conversation,
    )


def with_history(body: ParsedBody, history: tuple[Mapping[str, Any], ...]) -> ParsedBody:
    """The request with the items of the conversation before its own. Raises `BadField`."""
    prompt, asked = body.prompts[0], body.response
    assert isinstance(prompt, ChatPrompt)
    assert asked is not None
    items = messages_of((*history, *asked.items), stored=len(history))
    messages = (*_instructions(asked.fields["instructions"]), *items)
    check_answers(messages)
    return msgspec.structs.replace(body, prompts=(ChatPrompt(messages, prompt.tools),))


def _prompt(body: ResponseBody, asked: AskedResponse) -> ChatPrompt:
    own = messages_of(asked.items)
    continues = asked.previous or asked.conversation
    if not own and not continues:
        raise BadField("input", "'input' must hold at least one item.", "missing_field")
    messages = (*_instructions(body.instructions), *own)
    if not continues:
        check_answers(messages)
    return ChatPrompt(messages, tool_set(body.tools, body.tool_choice, body.parallel_tool_calls))


def _instructions(text: str | None) -> tuple[ChatMessage, ...]:
    return (ChatMessage("system", text),) if text else ()


def _reasoning(given: ReasoningBody | None) -> dict[str, Any]:
    """What an upstream gets of it. Raises `BadField`."""
    if given is None:
        return {}
    for name, plain in _PLAIN.items():
        if getattr(given, name) not in {None, plain}:
            raise fault(f"reasoning.{name}", f'must be "{plain}", or left out.', "unsupported_parameter")
    fields = {"reasoning_effort": given.effort, "thinking_token_budget": given.max_tokens}
    return {name: value for name, value in fields.items() if value is not None}


def _grammar(form: TextFormat) -> tuple[Grammar, dict[str, Any]]:
    """The constraint on the answer, and `response_format` for an upstream. Raises `BadField`."""
    if form.type == "json_object":
        return schema_grammar({}, "text.format"), {"type": "json_object"}
    if form.schema is None or form.name is None:
        raise fault("text.format", "must hold 'name' and 'schema'.", "missing_field")
    grammar = schema_grammar(form.schema, "text.format.schema", lenient=not form.strict)
    described = {"name": form.name, "schema": form.schema, "strict": form.strict, "description": form.description}
    fields = {name: value for name, value in described.items() if value is not None}
    return grammar, {"type": "json_schema", "json_schema": fields}


def _view(body: ResponseBody) -> View:
    tops = check_logprobs("top_logprobs", body.top_logprobs)
    logprobs = (tops or 0) if tops or _LOGPROBS in (body.include or ()) else None
    return View(logprobs, may_call=bool(body.tools) and body.tool_choice != "none")


def _asked(body: ResponseBody, given: GivenFields) -> AskedResponse:
    conversation = body.conversation.id if isinstance(body.conversation, ConversationBody) else body.conversation
    if conversation and body.previous_response_id:
        raise fault("conversation", "and 'previous_response_id' contradict each other: give one of them.")
    return AskedResponse(
        _repeated(body, given, conversation),
        items_of(body.input),
        stored=body.store is not False,
        background=bool(body.background),
        previous=body.previous_response_id or "",
        conversation=conversation or "",
    )


def _repeated(body: ResponseBody, given: GivenFields, conversation: str | None) -> Mapping[str, Any]:
    """The fields of the request that the response repeats, with the values that hold where it has none."""
    text, reasoning = body.text or TextBody(), body.reasoning or _NO_REASONING
    form = {"type": "text"} if text.format is None else (given["text"] or {})["format"]
    return {
        "background": bool(body.background),
        "conversation": None if conversation is None else {"id": conversation},
        "frequency_penalty": body.frequency_penalty or 0,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "presence_penalty": body.presence_penalty or 0,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": reasoning.effort, "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": given.get("service_tier") or "default",
        "store": body.store is not False,
        "temperature": 1 if body.temperature is None else body.temperature,
        "text": {"format": form, "verbosity": text.verbosity or "medium"},
        "tool_choice": body.tool_choice or "auto",
        "tools": [_shown_tool(tool) for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1 if body.top_p is None else body.top_p,
        "truncation": "disabled",
        "user": body.user,
    }


def _shown_tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    if tool.get("type") != "function":
        return tool
    return {"parameters": None, "strict": False, "description": None, **tool}
