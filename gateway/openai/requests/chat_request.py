"""`POST /v1/chat/completions`: the body, checked."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from actors.api.content import ContentPart, TextPart, content_of
from actors.api.request import ChatMessage, ChatPrompt, ParsedBody, View
from actors.upstream.reading.content_parts import plain
from engine.sampling.params import SamplingParams
from gateway.errors import BadField
from gateway.openai.requests.chat_parts import REASONING_PARTS, ChatPart, read_parts
from gateway.openai.requests.fault import fault
from gateway.openai.requests.forwarded_fields import CHAT as CHAT_FIELDS
from gateway.openai.requests.forwarded_fields import FOR_UPSTREAMS, needs_upstream, switched
from gateway.openai.requests.grammar_request import answer_grammar
from gateway.openai.requests.json_body import GivenFields
from gateway.openai.requests.neutral import field_schema, field_schemas
from gateway.openai.requests.reasoning_request import CHAT_REASONING, ReasoningTokens, with_reasoning
from gateway.openai.requests.sampling import (
    Alternatives,
    PenstockOptions,
    SamplingBody,
    StreamOptions,
    TokenLimit,
    check_choices,
    check_logprobs,
    explains,
    parsed_body,
    sampling_params,
)
from gateway.openai.requests.tools_request import (
    MAX_TOOLS,
    EarlierCall,
    NamedChoice,
    OfferedTool,
    ToolWord,
    earlier_calls,
    tool_set,
)

MAX_MESSAGES = 2048
_REASONING = ("reasoning_content", "reasoning", "reasoning_details")
ANSWERED = (
    "annotations", "audio", "channel", "citations", "context", "end_turn", "executed_tools",
    "extra_content", "images", "reasoning_opaque", "thinking_blocks", "tool_plan",
)  # fmt: skip
_reasons, _answered = attrgetter(*_REASONING), attrgetter(*ANSWERED)
_NO_OPTIONS = StreamOptions()
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_NO_FUNCTIONS: tuple[Any, ...] = (None, [], "none", "auto")


class MessageBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message as the client wrote it."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ChatPart] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[EarlierCall] | None = None
    refusal: str | None = None
    """Of an earlier answer: the model reads it as its content."""
    function_call: Any = None
    """Comes back when a client appends an answer as it received it; an empty value is ignored."""
    annotations: Any = None
    audio: Any = None
    channel: Any = None
    citations: Any = None
    context: Any = None
    end_turn: Any = None
    executed_tools: Any = None
    extra_content: Any = None
    images: Any = None
    reasoning_opaque: Any = None
    thinking_blocks: Any = None
    tool_plan: Any = None
    """From `annotations` on: what upstreams say in an answer beside its content. Upstreams get them as they were; an
    engine reads none of them."""
    parsed: Any = None
    """OpenAI's SDK adds it to an answer. Without effect."""
    content_parts: Any = None
    """What the content of an upstream's answer had beside text. Without effect."""
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    """Reasoning of an earlier answer, in the forms that servers use; allowed in an assistant's message only."""
    provider_specific_fields: Any = None
    """LiteLLM adds it to an answer, and sends it back. Without effect."""


class ChatBody(SamplingBody, kw_only=True):
    """The body of a chat completion."""

    forwarded = field_schemas(CHAT_FIELDS, FOR_UPSTREAMS)
    messages: Annotated[list[MessageBody], field_schema(minItems=1, maxItems=MAX_MESSAGES)]
    logprobs: bool | None = None
    max_completion_tokens: TokenLimit = None
    penstock: PenstockOptions | None = None
    top_logprobs: Alternatives = None
    function_call: Annotated[Any, field_schema(enum=list(_NO_FUNCTIONS))] = None
    functions: Annotated[Any, field_schema(enum=list(_NO_FUNCTIONS))] = None
    parallel_tool_calls: bool | None = None
    tool_choice: ToolWord | NamedChoice | None = None
    tools: Annotated[list[OfferedTool] | None, field_schema(maxItems=MAX_TOOLS)] = None
    include_reasoning: bool | None = None
    thinking_token_budget: ReasoningTokens = None
    """vLLM's: most tokens of the reasoning."""


def read_chat(body: ChatBody, given: GivenFields, max_choices: int) -> ParsedBody:
    """Raises `BadField`."""
    needs = needs_upstream(given, CHAT_FIELDS)
    params, n, view = _params(body, max_choices)
    prompt, grammar = _prompt(body), answer_grammar(body)
    if grammar is not None and grammar.kind != "json_schema" and prompt.tools is not None:
        raise fault(grammar.param, "and 'tools' cannot be combined: give one of them.")
    read = parsed_body(body, given, needs, (prompt,), params, n, view, grammar)
    effort, tokens = given.get("reasoning_effort"), body.thinking_token_budget
    return with_reasoning(read, CHAT_REASONING, _thinking(given), effort, tokens)


def _thinking(given: GivenFields) -> bool | None:
    """Whether an engine's model is to reason. Raises `BadField`."""
    thinking = switched(given.get("chat_template_kwargs"))
    if given.get("reasoning_effort") != "none":
        return thinking
    if thinking:
        raise fault("reasoning_effort", "\"none\" and 'chat_template_kwargs' contradict each other: leave one out.")
    return False


def _prompt(body: ChatBody) -> ChatPrompt:
    """The conversation. Raises `BadField`."""
    if not body.messages:
        raise fault("messages", "must hold at least one message.")
    if len(body.messages) > MAX_MESSAGES:
        raise fault("messages", f"must hold at most {MAX_MESSAGES} messages.")
    for name in ("functions", "function_call"):
        if getattr(body, name) not in _NO_FUNCTIONS:
            raise fault(
                name, "is deprecated and not supported: use 'tools' and 'tool_choice'.", "unsupported_parameter"
            )
    messages = tuple([_message(index, each) for index, each in enumerate(body.messages)])
    _check_answers(messages)
    return ChatPrompt(messages, tool_set(body.tools, body.tool_choice, body.parallel_tool_calls))


def _params(body: ChatBody, max_choices: int) -> tuple[SamplingParams, int, View]:
    """How to sample, how many choices, and what is shown beside the text. Raises `BadField`."""
    n = check_choices(body.n, 1, max_choices)
    limit, limited_by = body.max_completion_tokens, "max_completion_tokens"
    if limit is None:
        limit, limited_by = body.max_tokens, "max_tokens"
    elif body.max_tokens is not None and body.max_tokens != limit:
        raise fault("max_tokens", "and 'max_completion_tokens' differ: give one of them.")
    logprobs = None
    if body.logprobs:
        logprobs = check_logprobs("top_logprobs", body.top_logprobs or 0)
    elif body.top_logprobs:
        raise fault("top_logprobs", "needs 'logprobs': true.")
    if body.include_reasoning is False and logprobs is not None:
        raise fault("logprobs", "would show the tokens of the reasoning, which 'include_reasoning': false hides.")
    options = body.stream_options or _NO_OPTIONS
    view = View(
        logprobs,
        check_logprobs("prompt_logprobs", body.prompt_logprobs),
        may_call=bool(body.tools) and body.tool_choice != "none",
        usage=bool(options.include_usage),
        continuous_usage=bool(options.continuous_usage_stats),
        explain=explains(body.penstock),
        reasoning=body.include_reasoning is not False,
    )
    return sampling_params(body, max_tokens=limit, default_max_tokens=0, view=view, limit=limited_by), n, view


def _message(index: int, message: MessageBody) -> ChatMessage:
    where = f"messages[{index}]"
    if message.function_call:
        raise BadField(
            f"{where}.function_call",
            "'function_call' in a message is not supported by this server: use 'tool_calls'.",
            "unsupported_parameter",
        )
    calls = earlier_calls(f"{where}.tool_calls", message.tool_calls) if message.tool_calls else ()
    if calls and message.role != "assistant":
        raise BadField(f"{where}.tool_calls", f"A {message.role} message cannot hold 'tool_calls'.")
    if (message.tool_call_id is not None) != (message.role == "tool"):
        why = "'tool_call_id' is required in messages of the role tool, and not allowed in others."
        raise BadField(f"{where}.tool_call_id", why)
    if message.refusal and message.role != "assistant":
        raise _only_in_answers(f"{where}.refusal", message)
    reasoning, written = _reasoning(where, message)
    parts: tuple[ContentPart, ...] = ()
    content = message.content
    if content is None:
        if message.role != "assistant":
            raise BadField(f"{where}.content", f"The content of a {message.role} message is missing.", "missing_field")
        content = message.refusal or ""
    elif isinstance(content, list):
        given = read_parts(f"{where}.content", message.role, content)
        content, parts = content_of(given, message.role)
        texts = [{"type": "text", "text": part.text} for part in given if isinstance(part, TextPart)]
        if len(texts) == len(given) > 1 and not written:
            written = {"content": texts}
    if any(_answered(message)):
        written = {**written, **_extra_fields(where, message)}
    return ChatMessage(message.role, content, message.name, calls, message.tool_call_id, reasoning, written, parts)


def _only_in_answers(name: str, message: MessageBody) -> BadField:
    return fault(name, f"is allowed in assistant messages only, not in {message.role} messages.")


def _extra_fields(where: str, message: MessageBody) -> Mapping[str, Any]:
    """What an earlier answer had beside its content. Raises `BadField`."""
    fields = {name: value for name, value in zip(ANSWERED, _answered(message), strict=True) if value}
    if message.role != "assistant":
        raise _only_in_answers(f"{where}.{next(iter(fields))}", message)
    return fields


def _reasoning(where: str, message: MessageBody) -> tuple[str, Mapping[str, Any]]:
    """The reasoning of an earlier answer as text, and its fields as the client wrote them. Raises `BadField`."""
    if not (any(_reasons(message)) or isinstance(message.content, list)):
        return "", _NOTHING
    written = {name: value for name, value in zip(_REASONING, _reasons(message), strict=True) if value}
    parts = (
        [part for part in message.content if part.type in REASONING_PARTS] if isinstance(message.content, list) else []
    )
    if not written and not parts:
        return "", _NOTHING
    if message.role != "assistant":
        raise _only_in_answers(f"{where}.{next(iter(written), 'content')}", message)
    reasoning = plain(next(iter(written.values()), ""))
    if parts:
        assert isinstance(message.content, list)
        unmarked = [msgspec.structs.replace(part, cache_control=None) for part in message.content]
        written["content"] = msgspec.to_builtins(unmarked)
        reasoning = reasoning or plain(msgspec.to_builtins(parts))
    return reasoning, written


def _check_answers(messages: Sequence[ChatMessage]) -> None:
    """Check that each tool's message answers an earlier call. Raises `BadField`."""
    made: set[str] = set()
    for index, message in enumerate(messages):
        if message.tool_calls:
            made.update([call.id for call in message.tool_calls])
        if message.tool_call_id is not None and message.tool_call_id not in made:
            where = f"messages[{index}].tool_call_id"
            raise fault(where, "does not name a call of an earlier assistant message.")
