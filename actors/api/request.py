"""A request as the service takes it: parsed and bounded, before anything was decided about it."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from actors.api.content import ContentPart, MediaPart
from actors.api.response import ResponseEvent
from config.model.tenancy import KeyEndpoint
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from engine.text.tool_calls import ToolSet


class CallTurn(msgspec.Struct, frozen=True):
    """A tool call of an earlier answer."""

    id: str
    name: str
    arguments: dict[str, Any]
    extra: dict[str, Any] | None = None
    """Its `extra_content`, for the upstream that sent it."""
    text: str = ""
    """The arguments as the client wrote them: what a model wrote with other spaces is not in its server's cache. ""
    where they were no text."""


class ChatMessage(msgspec.Struct, frozen=True):
    """One turn; `content` is text (text parts are joined)."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str
    name: str | None = None
    tool_calls: tuple[CallTurn, ...] = ()
    tool_call_id: str | None = None
    """In a tool's turn: the call that it answers."""
    reasoning: str = ""
    """In an assistant's turn: its reasoning, for templates that use it."""
    written: Mapping[str, Any] = {}
    """Fields that an upstream gets as the client wrote them, in addition to the others or instead of them."""
    parts: tuple[ContentPart, ...] = ()
    """`content` with images, sounds and files, and with cache breakpoints, for upstreams that take them; empty: it is
    text alone."""


class ChatPrompt(msgspec.Struct, frozen=True, tag=True):
    """A conversation, rendered by the chat template of the model that answers."""

    messages: tuple[ChatMessage, ...]
    tools: ToolSet | None = None
    """What the model may call in its answer."""

    @property
    def media(self) -> tuple[MediaPart, ...]:
        """The images, sounds and files."""
        return tuple([part for message in self.messages for part in message.parts if isinstance(part, MediaPart)])


class TextPrompt(msgspec.Struct, frozen=True, tag=True):
    """Plain text."""

    text: str
    second: str | None = None
    """The text that a classifier is to compare with the first."""
    cut: int | None = None
    """Of the last text only so many first tokens are used; None: all."""
    prompt_name: str | None = None
    """The name of a prompt in the files of an embedding model, which is put before the text; None: the default one."""
    needs_prompt: bool = True
    """A model that has no such prompt refuses; otherwise the text stays as it is."""


class TokenPrompt(msgspec.Struct, frozen=True, tag=True):
    """Token ids of the model that answers."""

    token_ids: tuple[int, ...]


Prompt = ChatPrompt | TextPrompt | TokenPrompt


class EmbeddingParams(msgspec.Struct, frozen=True):
    """The requested form of an embedding."""

    size: int | None = None
    """Dimensions; None: the model's own number."""
    encoding: Literal["float", "base64"] = "float"
    """Its encoding in the answer."""
    scores: Literal["", "one", "any"] = ""
    """Not an embedding is requested but scores: of a model with one label, or with any number of them."""
    param: str = "input"
    """The field that contains the prompts."""
    endpoint: KeyEndpoint = "embeddings"
    """What a key must permit."""
    answers: tuple[str, ...] = ()
    """Not a vector of the text is requested but how probable these answers of a model of text are; (): a vector is."""


class TokenizeParams(msgspec.Struct, frozen=True):
    """How a prompt becomes the tokens that are asked for."""

    special_tokens: bool = True
    """With the tokens that the tokenizer puts around a text (BOS, [CLS])."""
    generation_prompt: bool = True
    """A conversation ends with the beginning of the next answer."""
    spelled: bool = False
    """Each token is requested as the vocabulary writes it, too."""


class View(msgspec.Struct, frozen=True):
    """What the answer contains beside the text."""

    logprobs: int | None = None
    """Alternatives for each token of the answer, and of its prompt if that is echoed; None: no log-probabilities."""
    prompt_logprobs: int | None = None
    """The same for each token of the prompt, in vLLM's field of this name."""
    echo: bool = False
    """Each choice begins with its prompt, as text."""
    may_call: bool = False
    """Tools were offered: a message that has no text has the content null."""
    usage: bool = False
    """A stream ends with the usage ..."""
    continuous_usage: bool = False
    """... and each of its chunks has it so far."""
    reasoning: bool = True
    """Messages contain the reasoning."""
    explain: bool = False
    """The field `penstock` has the cost, and what the cascade saw token by token."""

    @property
    def prompt_tops(self) -> int | None:
        """Alternatives for each token of the prompt; None: no log-probabilities."""
        counts = [count for count in (self.prompt_logprobs, self.logprobs if self.echo else None) if count is not None]
        return max(counts, default=None)


class Credentials(msgspec.Struct, frozen=True):
    """Key and headers of a request or of a WebSocket's handshake."""

    api_key: str | None = None
    """The bearer token as it came. Never logged."""
    path: str = "/v1/chat/completions"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """As received, names in lower case, without those that hold keys; conditions may use some."""
    tags: tuple[str, ...] = ()


class AskedResponse(msgspec.Struct, frozen=True):
    """What a response of the Responses API contains of its request, and what is stored with it."""

    fields: Mapping[str, Any]
    """Fields of the request that the response repeats."""
    items: tuple[Mapping[str, Any], ...] = ()
    """The input items, as the client wrote them."""
    tenant: str = ""
    """Whose it is; known when its conversation has been read."""
    stored: bool = False
    background: bool = False
    """It goes on without the client."""
    previous: str = ""
    """The id of the response that this one continues."""
    conversation: str = ""
    """The id of the conversation that gets the items."""


class ParsedBody(msgspec.Struct, frozen=True, kw_only=True):
    """A request's body, checked and bounded."""

    model: str
    """As the client wrote it."""
    prompts: tuple[Prompt, ...]
    """One for chat; one or more for completions and embeddings."""
    params: SamplingParams
    """`max_tokens` is 0 without a limit of the client: the model's length and the route's caps then decide."""
    n: int = 1
    """Choices for each prompt; choice index = prompt index * n + k."""
    grammar: Grammar | None = None
    """Constraint on each answer (unless it is a tool call)."""
    embedding: EmbeddingParams | None = None
    """Embeddings are requested, one for each prompt; None: text is."""
    tokenize: TokenizeParams | None = None
    """Only the tokens of the prompt are requested, or the text of its tokens."""
    truncate_prompt_tokens: int | None = None
    """Only this many last tokens of each prompt are used."""
    streamed: bool = True
    """False: the client gets the answer as a whole, so that every fallback stays possible until its end."""
    view: View = View()
    user: str | None = None
    conversation: str = ""
    """The conversation's name, if the body has one."""
    cache_salt: str = ""
    """Only requests with the same salt find each other's prompts in the prefix cache, within their cache domain."""
    cache_key: str = ""
    """`prompt_cache_key`: many clients send one per conversation."""
    thinking: bool | None = None
    """Whether the model of an engine is to reason before its content; None: as its chat template has it."""
    effort: str = ""
    """How much it is to reason, for chat templates that use `reasoning_effort`; "": as the template has it."""
    effort_field: str = ""
    """The field that says so."""
    reasoning_tokens: int | None = None
    """Most tokens of a choice's reasoning, for engines; None: the request sets no cap."""
    written: Mapping[str, Any] = {}
    """The fields beside the prompt as the client wrote them, for upstreams."""
    needs_upstream: tuple[str, ...] = ()
    """Names of fields whose values no engine supports."""
    extra: tuple[str, ...] = ()
    """Those among them that are beyond the API, and known to some upstreams only."""

    response: AskedResponse | None = None
    """The answer is a response of the Responses API."""

    @property
    def weighed(self) -> tuple[str, ...]:
        """The answers whose probabilities are requested."""
        return () if self.embedding is None else self.embedding.answers

    @property
    def wants_vectors(self) -> bool:
        """An embedding or scores are requested, which models of text do not make."""
        return self.embedding is not None and not self.embedding.answers

    @property
    def param(self) -> str:
        """The field that contains the prompts."""
        if self.embedding is not None:
            return self.embedding.param
        if self.response is not None:
            return "input"
        if self.tokenize is not None and isinstance(self.prompts[0], TokenPrompt):
            return "tokens"
        return "messages" if isinstance(self.prompts[0], ChatPrompt) else "prompt"

    @property
    def media(self) -> tuple[MediaPart, ...]:
        """The images, sounds and files of the conversation."""
        prompt = self.prompts[0]
        return prompt.media if isinstance(prompt, ChatPrompt) else ()

    @property
    def tools(self) -> ToolSet | None:
        prompt = self.prompts[0]
        return prompt.tools if isinstance(prompt, ChatPrompt) else None

    @property
    def engines_think(self) -> bool | None:
        """`thinking` for engines: they do not reason where a grammar binds the whole answer."""
        return False if self.bound_to is not None else self.thinking

    @property
    def bound_to(self) -> Literal["json", "tool_calls"] | None:
        """The kind of answer that a grammar makes atomic: part of one is useless, and no other model continues it."""
        if self.tools is not None and self.tools.choice == "required":
            return "tool_calls"
        return "json" if self.grammar is not None else None


class BegunAnswer(msgspec.Struct, frozen=True):
    """An answer that an ended process has begun."""

    tenant: str
    """Whose it is: its API key is not stored."""
    events: tuple[ResponseEvent, ...] = ()
    """Those that the client has, without an end."""


class OfBatch(msgspec.Struct, frozen=True):
    """The batch that a request belongs to. It was admitted with its batch: no key is shown again."""

    batch_id: str
    tenant: str
    key: str = ""
    """Id of the key that the batch was made with."""


class InferenceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the service takes it, before anything was decided about it."""

    request_id: str
    """Unique; the client sees it (`x-request-id`, and inside `id`)."""
    credentials: Credentials = Credentials()
    body: ParsedBody
    body_bytes: int = 0
    arrived_at: float
    """`trio.current_time()` when the request's head was read."""
    model: str = ""
    """A model of the settings; it and the adapter are parsed from the body's model during admission."""
    adapter: str = ""
    seed: int | None = None
    """For engines, where the client has given none: drawn for an answer that another process may have to go on with."""
    media_tokens: int = 0
    """Estimated tokens of its images, sounds and files."""
    begun: BegunAnswer | None = None
    """What there is of the answer already."""
    of_service: bool = False
    """The service itself asks, for a request whose key was checked."""
    about_answer: bool = False
    """It asks about what was answered: the limits of the tenant count it and do not refuse it."""
    batch: OfBatch | None = None
    """It is answered at best effort: whenever nothing else needs the backend. None: a client waits for it."""


class RequestContent:
    """What is asked, as a digest that is made only if it is needed. Who asks, and how, is no part of it."""

    __slots__ = ("_digest", "_request")

    def __init__(self, request: InferenceRequest) -> None:
        self._request = request
        self._digest = b""

    @property
    def digest(self) -> bytes:
        """Of the model, the prompts and the parameters."""
        if not self._digest:
            request, body = self._request, self._request.body
            asked = (
                request.model,
                request.adapter,
                body.prompts,
                body.params,
                body.n,
                body.grammar,
                body.embedding,
                body.truncate_prompt_tokens,
                body.thinking,
                body.effort,
                body.reasoning_tokens,
            )
            # As text: no encoder takes all that a client may have written (numbers of any size, half a surrogate).
            text = repr(asked).encode("utf-8", "surrogatepass")
            self._digest = blake2b(text, digest_size=16, person=b"request").digest()
        return self._digest


class Principal(msgspec.Struct, frozen=True, gc=False):
    """The client of a request, as engines and queues see it."""

    tenant: str
    tenant_queue: str
    """Name of its tenant queue: see `config.tenants.tenant_queue_name`."""
    tier: str
    priority: int
    cache_salt: bytes
    """Of its cache domain: keeps tenants from detecting each other's prompts in the prefix cache."""

    @classmethod
    def of(cls, tenant: str, tenant_queue: str, tier: str, priority: int, domain: str) -> "Principal":
        """`domain`: see `config.tenants.cache_domain`."""
        return cls(tenant, tenant_queue, tier, priority, _salt(domain.encode()))

    def salt_of(self, body: ParsedBody) -> bytes:
        """The salt of one request, which may narrow the domain by a salt of its own."""
        own = body.cache_salt
        return _salt(self.cache_salt + own.encode("utf-8", "surrogatepass")) if own else self.cache_salt


def _salt(content: bytes) -> bytes:
    return blake2b(content, digest_size=16, person=b"prefix cache").digest()
