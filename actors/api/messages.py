"""What the edge and the actors say to each other about one request."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from engine.core.messages import FinishReason, TokenLogprobs
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from engine.text.tool_calls import ToolSet

EndReason = FinishReason | Literal["tool_calls"]
"""Of a choice. With "tool_calls" it ended as it should, and it called tools."""


class CallTurn(msgspec.Struct, frozen=True):
    """A call that an earlier answer made."""

    id: str
    name: str
    arguments: dict[str, Any]
    extra: dict[str, Any] | None = None
    """The `extra_content` that came with it: for the upstream which sent it."""


class ChatMessage(msgspec.Struct, frozen=True):
    """One turn; `content` is text (the edge has joined text parts)."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str
    name: str | None = None
    tool_calls: tuple[CallTurn, ...] = ()
    tool_call_id: str | None = None
    """Of a tool's turn: the call that it answers."""
    reasoning: str = ""
    """Of an assistant's turn: what it thought. For templates that have a place for it."""
    written: Mapping[str, Any] = {}
    """Fields that an upstream gets as they were written, beside the others or instead of them."""


class ChatPrompt(msgspec.Struct, frozen=True, tag=True):
    """A conversation, rendered by the chat template of the model that answers."""

    messages: tuple[ChatMessage, ...]
    tools: ToolSet | None = None
    """What the model may call in its answer."""


class TextPrompt(msgspec.Struct, frozen=True, tag=True):
    """Plain text."""

    text: str


class TokenPrompt(msgspec.Struct, frozen=True, tag=True):
    """Token ids of the model that answers."""

    token_ids: tuple[int, ...]


Prompt = ChatPrompt | TextPrompt | TokenPrompt


class EmbeddingParams(msgspec.Struct, frozen=True):
    """What is asked of an embedding."""

    size: int | None = None
    """Numbers that it has; None: as many as the model gives it."""


class InferenceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed, bounded request, before anything was decided about it."""

    request_id: str
    """Unique; the client sees it (`x-request-id`, and inside `id`)."""
    model: str
    """As the client wrote it; behind the reception, one of the settings' names."""
    prompts: tuple[Prompt, ...]
    """One for chat; one or more for completions."""
    params: SamplingParams
    """`max_tokens` is 0 if the client did not say: the service fills in what the model's length and the caps leave."""
    grammar: Grammar | None = None
    """What each answer must be like (if it is no tool call)."""
    embedding: EmbeddingParams | None = None
    """Embeddings are wanted, one for each prompt; None: text is."""
    written: Mapping[str, Any] = {}
    """The fields of the body beside the prompt, as the client wrote them: an upstream is asked for nothing else."""
    needs_upstream: tuple[str, ...] = ()
    """Those whose values no engine obeys."""
    echo: bool = False
    """The client wants to see its prompts as text."""
    truncate_prompt_tokens: int | None = None
    """Only so many last tokens of each prompt are read."""
    n: int = 1
    """Choices for each prompt; choice index = prompt index * n + k."""
    api_key: str | None = None
    """The bearer token as it came. Never logged."""
    path: str = "/v1/chat/completions"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """As they came, names in lower case; the policy may look at some."""
    tags: tuple[str, ...] = ()
    user: str | None = None
    conversation: str = ""
    """Its name, if the body has one."""
    cache_key: str = ""
    """`prompt_cache_key`: many clients have one for each conversation."""
    streamed: bool = True
    """False: the client gets the answer whole. Nothing is handed out before its end, and every fallback stays open."""
    body_bytes: int = 0
    adapter: str = ""
    """That the client asked for with the model's name; the reception finds it there."""
    arrived_at: float
    """`trio.current_time()` when the request's head was read."""

    @property
    def param(self) -> str:
        """The field in which the prompts came."""
        if self.embedding is not None:
            return "input"
        return "messages" if isinstance(self.prompts[0], ChatPrompt) else "prompt"

    @property
    def asked_for(self) -> str:
        """The model's name as the client wrote it."""
        return f"{self.model}:{self.adapter}" if self.adapter else self.model

    @property
    def tools(self) -> ToolSet | None:
        """What the model may call."""
        prompt = self.prompts[0]
        return prompt.tools if isinstance(prompt, ChatPrompt) else None

    @property
    def bound_to(self) -> Literal["json", "tool_calls"] | None:
        """What each answer is, by grammar: a part of it is of no use, and binds whoever would go on from it."""
        if self.tools is not None and self.tools.choice == "required":
            return "tool_calls"
        return "json" if self.grammar is not None else None


class Usage(msgspec.Struct, frozen=True):
    """Exact tokens of engines; of an upstream what it says.

    `prompt_tokens` counts each prompt once, whatever `n` is and however many rungs were tried.
    """

    prompt_tokens: int
    completion_tokens: int
    """Tokens of the answer that the client received."""
    cached_tokens: int = 0


class AttemptSummary(msgspec.Struct, frozen=True):
    """One try of one rung: for headers, the extension field, logs and the ledger."""

    rung: str
    outcome: Literal["answered", "escalated", "failed", "refused"]
    why: str
    """A short stable word: "confident", "low_margin", "asked_for", "engine_failed", "breaker_open", "ttft_timeout" …"""


class Start(msgspec.Struct, frozen=True, tag=True):
    """Before the first content. In `window` mode it can precede an escalation: `Done.served` has the last word."""

    route: str
    rung: str
    prompt_tokens: int
    echo: tuple[str, ...] = ()
    """If the request wants to see them: for each choice the text of its prompt."""
    adapter: str = ""
    mark: str | None = None
    degraded: tuple[str, ...] = ()
    """See `policies.model.degraded`; what comes after this is in `Served`."""
    tier: str | None = None
    """In which it is served, if a spent budget has moved it there."""
    model_asked: str = ""
    model_served: str = ""
    """See `Served`."""


class MadeCall(msgspec.Struct, frozen=True, gc=False):
    """A tool call of an answer, whole."""

    index: int
    """Among the calls of its choice."""
    id: str
    name: str
    arguments: str
    """A JSON object."""
    extra: dict[str, Any] | None = None
    """Its `extra_content`, if an upstream sent one: it wants it back with the next turn."""


class Delta(msgspec.Struct, frozen=True, tag=True, gc=False):
    """New content of one choice; `text` may be empty while `token_ids` is not."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: EndReason | None = None
    stop: str | int | None = None
    unnamed: int = 0
    """Tokens whose ids are not known, beside `token_ids`: an upstream names none. The last delta of a choice corrects
    the count, also downwards."""
    calls: tuple[MadeCall, ...] = ()
    """Tool calls; their tokens are in `token_ids`, their text is not in `text`."""
    embedding: bytes | None = None
    """The whole of the choice, if embeddings are wanted: float32, little-endian."""
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    """If they are asked for: of each of the prompt's tokens, with the first delta of a choice."""
    reasoning: str = ""
    """What an upstream's model thought, beside `text`; its tokens are among the `unnamed`."""


class DecisionInfo(msgspec.Struct, frozen=True, gc=False):
    """What was decided before the first token, as far as clients are told."""

    policy: str
    """The digest of the policy that decided."""
    experiment: str = ""
    arm: str = ""
    """Of the experiment; "" if the request takes part in none."""
    passed_over: tuple[str, ...] = ()
    """Places of the request's schemas that are not enforced."""


class Served(msgspec.Struct, frozen=True):
    """Who answered, and how it came to that."""

    route: str
    rung: str
    why: str
    attempts: tuple[AttemptSummary, ...]
    mark: str | None = None
    margin: float | None = None
    """The deferral statistic of the small model's answer, in nats, if a cascade looked at it."""
    drafted_tokens: int = 0
    """That the answering engine was given, or gave itself, as a guess of this answer."""
    accepted_tokens: int = 0
    """Those of them that it took."""
    policy: str = ""
    experiment: str | None = None
    arm: str | None = None
    """None: the request takes part in no experiment."""
    adapter: str | None = None
    """That answered, as NAME@VERSION."""
    degraded: tuple[str, ...] = ()
    """In which ways less was done than was asked for: see `policies.model.degraded`."""
    tier: str | None = None
    """In which it was served, if a spent budget has moved it there."""
    model_asked: str = ""
    """The name that the client asked for."""
    model_served: str = ""
    """Who answered: an engine's name, or the model as its upstream names it; "" if no model did."""
    upstream_finish: str | None = None
    """An upstream's own finish reason, where it is none that is known here; the finish reason told is "stop" then."""


class Done(msgspec.Struct, frozen=True, tag=True):
    """The truthful end of an answer: every choice had its finish reason and usage is settled in the ledger."""

    usage: Usage
    served: Served


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The truthful end of an answer that broke off after content was sent; before content an exception is raised."""

    error: "ErrorBody"
    usage: Usage
    served: Served | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """An error as the protocols say it: see actors/api/errors.py for the tree that it comes from."""

    status: int
    type: str
    """OpenAI's class: invalid_request_error, authentication_error, rate_limit_error, server_error …"""
    code: str
    """Stable, snake_case."""
    message: str
    """What was wrong and what to do."""
    param: str | None = None
    retry_after_s: float | None = None
    should_retry: bool = False
    upstream_code: str | None = None
    """What an upstream called it, if one did: its words stand in the message."""


ResponseEvent = Start | Delta | Done | Failed
