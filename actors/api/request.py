"""A request as the service takes it: parsed and bounded, before anything was decided about it."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from engine.text.tool_calls import ToolSet


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
