"""The events of a response, in order."""

from typing import Any, Literal

import msgspec

from actors.api.errors import ErrorBody
from actors.api.extra_fields import ExtraFields, Fields
from engine.messages import FinishReason, TokenLogprobs

EndReason = FinishReason | Literal["tool_calls"]
"""Why a choice ended; "tool_calls": it ended normally, with tool calls."""


class Usage(msgspec.Struct, frozen=True):
    """Token counts: exact for engines, as reported for upstreams.

    `prompt_tokens` counts each prompt once, whatever `n` is and however many rungs were tried.
    """

    prompt_tokens: int
    completion_tokens: int
    """Tokens of the answer that the client received."""
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    """Part of the completion."""
    extra: Fields = {}
    """What else an upstream says of it; sums of the numbers of all choices."""


class AttemptSummary(msgspec.Struct, frozen=True):
    """One attempt, for the field `penstock`."""

    rung: str
    outcome: Literal["answered", "escalated", "failed", "refused"]
    why: str
    """A stable code: "confident", "low_margin", "judged_bad", "asked_for", "engine_failed", "ttft_timeout" …"""


class Start(msgspec.Struct, frozen=True, tag=True):
    """Before the first content. In `window` mode an escalation may follow: `Done.served` is final."""

    route: str
    rung: str
    prompt_tokens: int
    echo: tuple[str, ...] = ()
    """If requested: for each choice the text of its prompt."""
    adapter: str = ""
    mark: str | None = None
    degraded: tuple[str, ...] = ()
    """See `policies.model.plan.Degraded`; what comes after this is in `Served`."""
    tier: str | None = None
    """The tier in which it is served, if a spent budget has changed it."""
    model_asked: str = ""
    model_served: str = ""
    """See `Served`."""
    tokenizer: str = ""
    """Digest of the rung's tokenizer, whose ids the tokens have; "": unknown. Not sent."""


class MadeCall(msgspec.Struct, frozen=True, gc=False):
    """A complete tool call of an answer."""

    index: int
    """Among the calls of its choice."""
    id: str
    name: str
    arguments: str
    """A JSON object."""
    extra: dict[str, Any] | None = None
    """Its `extra_content`, if an upstream sent one; the upstream expects it back with the next turn."""


class Delta(msgspec.Struct, frozen=True, tag=True, gc=False):
    """New content of one choice; `text` may be empty while `token_ids` is not."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: EndReason | None = None
    stop: str | int | None = None
    unnamed: int = 0
    """Number of tokens without known ids, beside `token_ids`: upstreams send none. The last delta of a choice corrects
    the count, possibly downwards."""
    calls: tuple[MadeCall, ...] = ()
    """Tool calls; their tokens are in `token_ids`, their text is not in `text`."""
    embedding: bytes | None = None
    """The whole choice, if embeddings are requested: float32, little-endian."""
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    """If requested: for each token of the prompt, in the first delta of a choice."""
    reasoning: str = ""
    """The model's reasoning, which is not in `text`."""
    reasoning_tokens: int = 0
    """How many of the choice's tokens are its reasoning's, beside those of earlier deltas; upstreams report it at the
    end."""
    refuses: bool = False
    """`text` is the model's refusal, which some upstreams tell apart from an answer."""
    extras: ExtraFields | None = None
    """What else an upstream says."""


class DecisionInfo(msgspec.Struct, frozen=True, gc=False):
    """What clients learn about the decision before the first token."""

    policy: str
    """The digest of the policy that decided."""
    experiment: str = ""
    arm: str = ""
    """Of the experiment; "" if the request takes part in none."""
    passed_over: tuple[str, ...] = ()
    """Parts of the request's schemas that are not enforced."""


class ServerTimings(msgspec.Struct, frozen=True):
    """Where an answer's time went, in milliseconds; None: that did not happen."""

    queue_ms: float | None
    """Until the first backend took it: admission, the plan and the queue."""
    prefill_ms: float | None
    """From there until its first content was there."""
    decode_ms: float | None
    """From its first content until its end."""


class CascadeStep(msgspec.Struct, frozen=True, gc=False):
    """An output of the small model as its cascade judged it: one token, or several that came together."""

    text: str
    """As the model wrote it; empty while a character or a possible stop string is incomplete."""
    margins: tuple[float, ...]
    """Of its tokens, in nats; none for a token without alternatives, as a grammar may leave it."""
    statistic: float
    """The deferral statistic after it; infinite before the first margin."""


class CascadeTrace(msgspec.Struct, frozen=True, kw_only=True):
    """What a cascade saw of the small model's answer, of its least sure choice."""

    name: str
    small: str
    large: str
    mode: str
    """"gate" or "window"."""
    statistic: str
    threshold: float
    """The answer escalates if the statistic is below."""
    index: int
    """Of the choice."""
    shown: int
    """The number of steps that are part of the answer; the others were discarded."""
    steps: tuple[CascadeStep, ...]


class Served(msgspec.Struct, frozen=True):
    """Which backend answered, and why."""

    route: str
    rung: str
    why: str
    attempts: tuple[AttemptSummary, ...]
    mark: str | None = None
    margin: float | None = None
    """The deferral statistic of the small model's answer, in nats; None without a cascade."""
    judged: float | None = None
    """How probably the small model's answer is good, as the cascade's judge says; None: none has judged it."""
    drafted_tokens: int = 0
    """Draft tokens that the answering engine was given or made."""
    accepted_tokens: int = 0
    """Those of them that it accepted."""
    policy: str = ""
    experiment: str | None = None
    arm: str | None = None
    """None: the request is in no experiment."""
    adapter: str | None = None
    """The adapter that answered, as NAME@VERSION."""
    degraded: tuple[str, ...] = ()
    """Codes of a degraded answer: see `policies.model.plan.Degraded`."""
    tier: str | None = None
    """The tier in which it was served, if a spent budget has changed it."""
    model_asked: str = ""
    """The model name that the client requested."""
    model_served: str = ""
    """The engine that answered, or the model as its upstream names it; "" if no model did."""
    upstream_finish: str | None = None
    """An upstream's own finish reason if it is an unknown one; `finish_reason` is "stop" then."""
    timings: ServerTimings | None = None
    reasoning_capped: Literal["request", "route"] | None = None
    """The engine ended the reasoning of a choice where the request's or the route's cap was reached."""
    cost: float | msgspec.UnsetType | None = msgspec.UNSET
    """Money that was charged; None: the policy has no prices. Unset, as the next, if no explanation is asked for."""
    cascade: CascadeTrace | msgspec.UnsetType | None = msgspec.UNSET
    """None: no cascade has judged it."""


class Done(msgspec.Struct, frozen=True, tag=True):
    """The end of a complete answer: every choice has its finish reason."""

    usage: Usage
    served: Served


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The end of an answer that failed after content was sent; before content an exception is raised."""

    error: ErrorBody
    usage: Usage
    served: Served | None = None


ResponseEvent = Start | Delta | Done | Failed
