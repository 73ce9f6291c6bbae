"""An answer as its reader gets it: the events of a response, in order, and what they hold."""

from typing import Any, Literal

import msgspec

from actors.api.errors import ErrorBody
from engine.core.messages import FinishReason, TokenLogprobs

EndReason = FinishReason | Literal["tool_calls"]
"""Of a choice. With "tool_calls" it ended as it should, and it called tools."""


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
    """See `policies.model.plan.Degraded`; what comes after this is in `Served`."""
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
    """In which ways less was done than was asked for: see `policies.model.plan.Degraded`."""
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

    error: ErrorBody
    usage: Usage
    served: Served | None = None


ResponseEvent = Start | Delta | Done | Failed
