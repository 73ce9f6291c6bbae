"""From a request to the features that the policy looks at."""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import TypeVar

from actors.api.content import MediaPart
from actors.api.request import ChatMessage, ChatPrompt, InferenceRequest, ParsedBody, Prompt, TextPrompt, TokenPrompt
from config.model.conditions import Has
from config.model.media import Medium
from config.model.tenancy import TenantSettings
from policies.model.features import Features, Requirements
from policies.routing.code_share import code_density
from policies.routing.complexity import complexity
from policies.routing.language import language
from policies.routing.policy import Policy, priors_for

T = TypeVar("T", bound=str)
CONVERSATION_HEADER = "x-penstock-conversation"
"""Names the conversation that a request belongs to."""
_HEADER = CONVERSATION_HEADER.encode()
_TELLING_TURNS = 2


def features_of(
    request: InferenceRequest,
    policy: Policy,
    tenant: str,
    settings: TenantSettings,
    lengths: Sequence[int],
    *,
    at: float = 0.0,
    knows_effort: bool = True,
) -> Features:
    """The features of a request. Those that cost time are computed only if the policy looks at them.

    `lengths`: tokens of each prompt. `at`: seconds since 1970. `knows_effort`: an engine knows `reasoning_effort`.
    """
    body = request.body
    text, turns = last_user_text(body.prompts)
    headers = _headers(request, policy.headers)
    needs = policy.needs
    requirements = _requirements(request, lengths, knows_effort=knows_effort)
    return Features(
        model=request.model,
        tenant=tenant,
        tier=settings.tier,
        tags=_shared(request.credentials.tags),
        headers=headers,
        path=request.credentials.path,
        has=_has(body, requirements),
        prompt_tokens=sum(lengths),
        max_tokens=body.params.max_tokens,
        choices=len(body.prompts) * body.n,
        turn=turns,
        complexity=complexity(text, turns),
        code=code_density(text) if "code" in needs else 0.0,
        language=language(text) if "language" in needs else "und",
        priors=priors_for(policy, text),
        at=at,
        requirements=requirements,
        request=request.request_id,
        conversation=_conversation(request, tenant) if "conversation" in needs else "",
        user=body.user or "",
    )


def _requirements(request: InferenceRequest, lengths: Sequence[int], *, knows_effort: bool) -> Requirements:
    body = request.body
    embedding, params = body.embedding, body.params
    return Requirements(
        adapter=request.adapter,
        embedding=embedding is not None,
        dimensions=None if embedding is None else embedding.size,
        scores="" if embedding is None else embedding.scores,
        compared=embedding is not None and not embedding.scores and embedding.endpoint == "scores",
        decides=bool(body.weighed),
        upstream_fields=body.needs_upstream
        if knows_effort or not body.effort
        else (*body.needs_upstream, body.effort_field),
        media=_media(body),
        bound_to=body.bound_to,
        prompt_logprobs=params.prompt_logprobs is not None,
        prompt_only=params.prompt_only,
        prompt_lengths=tuple(lengths) if len(lengths) > 1 else (),
        param=body.param,
    )


def _media(body: ParsedBody) -> tuple[tuple[Medium, str], ...]:
    media = body.media
    return tuple(sorted({part.medium: part.where for part in reversed(media)}.items())) if media else ()


def _media_of(message: ChatMessage) -> str:
    return "".join([part.digest.hex() for part in message.parts if isinstance(part, MediaPart)])


def last_user_text(prompts: Sequence[Prompt]) -> tuple[str, int]:
    """What the complexity of a request is judged by, and the number of user turns."""
    match prompts[0]:
        case ChatPrompt(messages):
            turns = [message.content for message in messages if message.role == "user"]
            return (turns[-1] if turns else "", max(len(turns), 1))
        case TextPrompt(text):
            return text, 1
        case TokenPrompt():
            return "", 1


@lru_cache(maxsize=256)
def _shared(names: tuple[T, ...]) -> frozenset[T]:
    """One object for all requests that have the same: the log of decisions keeps thousands."""
    return frozenset(names)


def _has(body: ParsedBody, requirements: Requirements) -> frozenset[Has]:
    has: list[Has] = []
    params = body.params
    if body.tools is not None:
        has.append("tools")
    if requirements.bound_to is not None:
        has.append("schema")
    if body.streamed:
        has.append("stream")
    if body.n > 1 or len(body.prompts) > 1:
        has.append("choices")
    if params.logprobs is not None or params.prompt_logprobs is not None:
        has.append("logprobs")
    if params.seed is not None:
        has.append("seed")
    if params.stop:
        has.append("stop")
    has += [medium for medium, _ in requirements.media]
    return _shared(tuple(has))


def _headers(request: InferenceRequest, wanted: frozenset[str]) -> dict[str, str]:
    """The first value of each wanted header."""
    values: dict[str, str] = {}
    if wanted:
        for name, value in request.credentials.headers:
            word = name.decode("latin1")
            if word in wanted:
                values.setdefault(word, value.decode("latin1"))
    return values


def _conversation(request: InferenceRequest, tenant: str) -> str:
    """A name that all turns of a conversation share, and no other conversation has.

    The name in the header or the body, if there is one. Otherwise a hash of the user (`user`, `prompt_cache_key`) and
    all messages up to the first user message. Without a user many conversations begin with the same words: then the
    first turn has a name of its own, and later ones are named by all messages up to the second user message, which
    include the first answer.
    """
    body, headers = request.body, request.credentials.headers
    named = next((value.decode("latin1") for name, value in headers if name == _HEADER), body.conversation)
    if named:
        return f"{tenant}/{named}"
    who = body.user or body.cache_key
    match body.prompts[0]:
        case ChatPrompt(messages):
            turns = [place for place, message in enumerate(messages, 1) if message.role == "user"]
            if not who and len(turns) < _TELLING_TURNS:
                return request.request_id
            upto = turns[0 if who else 1] if turns else len(messages)
            parts = [f"{message.role}\0{message.content}{_media_of(message)}" for message in messages[:upto]]
        case TextPrompt() | TokenPrompt():
            # A text completion has no turns: what comes next begins with other words.
            parts = [body.user or "", body.cache_key] if who else [request.request_id]
    state = blake2b(digest_size=12)
    for each in (tenant, body.user or "", body.cache_key, *parts):
        state.update(f"{len(each)}:{each}".encode("utf-8", "surrogatepass"))
    return state.hexdigest()
