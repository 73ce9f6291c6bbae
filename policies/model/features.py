"""The properties of a request that decisions look at, and its requirements of the backend that answers."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from config.model.conditions import Has
from config.model.media import MEDIA, Medium

BoundTo = Literal["json", "tool_calls"]
EMBEDDINGS_PATH = "/v1/embeddings"
DECISIONS_PATH = "/v1/decisions"
_SCORES: Mapping[str, Literal["one", "any"]] = {
    "/rerank": "one", "/v1/rerank": "one", "/v2/rerank": "one", "/score": "one", "/v1/score": "one", "/classify": "any",
    "/v1/moderations": "any",
}  # fmt: skip


class Requirements(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """From the request's body, without its text; no condition looks at them."""

    adapter: str = ""
    """The adapter that the client requested with the model's name."""
    embedding: bool = False
    """Embeddings are requested, one for each prompt; False: text is."""
    dimensions: int | None = None
    """Dimensions of the embeddings; None: the model's own number."""
    scores: Literal["", "one", "any"] = ""
    """Not embeddings are requested but scores: of a model with one label, or with any number of them."""
    compared: bool = False
    """The embeddings are for scores of two texts."""
    decides: bool = False
    """Not embeddings are requested but the probabilities of answers, which only engines with a model of text have."""
    upstream_fields: tuple[str, ...] = ()
    """Fields whose values no engine supports."""
    media: tuple[tuple[Medium, str], ...] = ()
    """What the conversation contains beside text, with the first field that contains it."""
    bound_to: BoundTo | None = None
    """The kind of answer that a grammar makes atomic: part of one is useless, and no other model continues it."""
    prompt_logprobs: bool = False
    prompt_only: bool = False
    """Only the prompt is processed; no token is generated."""
    prompt_lengths: tuple[int, ...] = ()
    """Tokens of each prompt if there are several."""
    price_share: float = 1.0
    """What of [prices] it costs."""
    param: str = "messages"
    """The field that contains the prompts."""


def described_requirements(path: str, has: Collection[str]) -> Requirements:
    """Requirements that follow from features, for described requests and recordings without requirements."""
    if path == EMBEDDINGS_PATH:
        return Requirements(embedding=True, param="input")
    if path == DECISIONS_PATH:
        return Requirements(embedding=True, decides=True, param="input")
    if path in _SCORES:
        return Requirements(embedding=True, scores=_SCORES[path], param="input")
    param = "prompt" if path == "/v1/completions" else "messages"
    return Requirements(bound_to="json" if "schema" in has else None, media=described_media(has), param=param)


def described_media(has: Collection[str]) -> tuple[tuple[Medium, str], ...]:
    """What a conversation with these features contains beside text."""
    return tuple([(medium, "messages") for medium in MEDIA if medium in has])


class Features(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Properties of one request, known before the decision.

    Those that take microseconds to compute (`code`, `language`, `headers`) are filled in only if the policy uses them:
    see `Policy.needs`.
    """

    model: str
    """The model name in the client's request."""
    tenant: str
    tier: str
    tags: frozenset[str] = frozenset()
    headers: Mapping[str, str] = MappingProxyType({})
    """Keys are header names in lower case."""
    path: str = "/v1/chat/completions"
    has: frozenset[Has] = frozenset()
    prompt_tokens: int
    """Sum over all prompts of the request."""
    max_tokens: int
    """Output tokens that the client allows for one choice; 0 if the request has no limit."""
    choices: int = 1
    """Number of prompts times `n`."""
    turn: int = 1
    """User turns in the conversation, this one included."""
    complexity: float = 0.0
    """0..1, see `policies.routing.complexity`."""
    code: float = 0.0
    """0..1, see `policies.routing.code_share`."""
    language: str = "und"
    """See `policies.routing.language`."""
    at: float = 0.0
    """Seconds since 1970, UTC."""
    priors: Mapping[str, tuple[float, float]] = MappingProxyType({})
    """By cascade, where the calibration has a prompt model: see `policies.cascade.prompt_model.priors_of`."""
    budget_used: float = 0.0
    """Share of the tenant's budget that is spent or reserved; 0 without a budget."""
    budget_spent: bool = False
    """The request does not fit into the remaining budget: only the cheapest rung may answer it."""
    downgraded_from: str = ""
    """The tenant's tier, if a spent budget has moved the request from there into `tier`."""
    requirements: Requirements = Requirements()
    """What it needs of the backend that answers."""
    request: str = ""
    conversation: str = ""
    user: str = ""
    """`request`, `conversation`, `user`: the units by which experiments split traffic; "" if unknown."""
