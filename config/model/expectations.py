"""Tests inside the policy file: for a given request under a given load, a decision is expected."""

from typing import Literal

import msgspec

from config.model.bounds import Count, Natural, NonNegative, Share
from config.model.conditions import BreakerStateName, Has
from config.model.table import NonNegativeSeconds, Seconds, Table


class GivenLoad(Table, frozen=True):
    """The load of one rung."""

    healthy: bool = True
    queue_wait: NonNegativeSeconds = Seconds(0)
    kv_usage: Share = 0.0
    running: Natural = 0
    breaker: BreakerStateName = "closed"


class GivenRequest(Table, frozen=True):
    """The request of a test. What is not given has a neutral default."""

    model: str | None = None
    """None: the first of [models]."""
    tenant: str | None = None
    """None: the first of [tenants], or "anonymous"."""
    tier: str | None = None
    """None: the tenant's."""
    tag: tuple[str, ...] = ()
    header: dict[str, str] = msgspec.field(default_factory=dict)
    path: str = "/v1/chat/completions"
    has: tuple[Has, ...] = ()
    text: str | None = None
    """The last user text, from which complexity, code and language are computed unless they are given."""
    prompt_tokens: Natural = 100
    max_tokens: Natural = 0
    turn: Count = 1
    complexity: Share | None = None
    code: Share | None = None
    language: str | None = None
    budget_used: NonNegative = 0.0
    time: str | None = None
    """ISO 8601 with a zone, such as "2026-11-21T22:30:00+01:00"."""
    unit: str = ""
    """The request, conversation and user id by which experiments split traffic."""
    load: dict[str, GivenLoad] = msgspec.field(default_factory=dict)
    busy: tuple[str, ...] = ()
    """Cascades whose `when_busy` holds."""
    rolled_back: tuple[str, ...] = ()
    """Experiments that were rolled back."""


class ExpectedDecision(Table, frozen=True):
    """The expected decision. What is not given is not compared."""

    route: str | None = None
    refused: str | None = None
    """The code of the refusal, such as "no_route" or "budget_spent"."""
    cascade: str | None = None
    ladder: str | None = None
    first_rung: str | None = None
    rungs: tuple[str, ...] | None = None
    """All rungs in the order in which they are tried first; "static_answer" for a ladder's text."""
    may_escalate: bool | None = None
    mode: Literal["gate", "window", "verified"] | None = None
    why: str | None = None
    """The cascade's reason code: "default", "asked_large", "busy", "small_unavailable", "budget"."""
    arm: str | None = None
    reason: str | None = None
    """A text that one of the plan's reasons contains."""


class TestSettings(Table, frozen=True, kw_only=True):
    """One test of the policy."""

    __test__ = False  # keeps pytest from collecting it as a test class

    name: str
    given: GivenRequest = GivenRequest()
    expect: ExpectedDecision
