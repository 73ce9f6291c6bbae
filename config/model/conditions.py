"""Conditions: what a request and the live load must be like. Typed; no expressions in strings."""

from typing import Literal

import msgspec

from config.model.table import ClockTime, Range, Table

Has = Literal["tools", "schema", "stream", "choices", "logprobs", "seed", "stop"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
BreakerStateName = Literal["closed", "open", "half_open"]


class LoadCondition(Table, frozen=True):
    """Live load of one rung. All the fields that are given must hold."""

    of: str
    queue_wait_over_slo: Range | None = None
    """Expected wait divided by the tier's TTFT promise."""
    kv_usage: Range | None = None
    """Share of the KV blocks in use, 0..1; engines only."""
    breaker: tuple[BreakerStateName, ...] = ()
    """Any of these states."""


class TimeCondition(Table, frozen=True):
    """Wall-clock time in a time zone.

    A span whose end is not after its begin goes past midnight; the days are those on which a span begins.
    """

    from_: ClockTime = msgspec.field(default=ClockTime(0), name="from")
    to: ClockTime = ClockTime(24 * 60)
    days: tuple[Day, ...] = ()
    """None given: every day."""
    zone: str = "UTC"
    """A name of the IANA data base, such as "Europe/Berlin"."""


class SignalSettings(Table, frozen=True):
    """A condition. All the fields that are given must hold; lists hold if any member does."""

    model: tuple[str, ...] = ()
    tenant: tuple[str, ...] = ()
    tier: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    """Values of the request header `x-penstock-tags` (comma separated)."""
    header: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """By the header's name in lower case: the values, any of which it has. Every header named must have one."""
    path: tuple[str, ...] = ()
    """The address: "/v1/chat/completions", "/v1/completions", "/v1/stream"."""
    has: tuple[Has, ...] = ()
    """What the request brings or asks for: any of these."""
    signal: tuple[str, ...] = ()
    """Names of entries of [signals]."""
    prompt_tokens: Range | None = None
    max_tokens: Range | None = None
    """Output tokens that the client allows; 0 if it did not say."""
    turn: Range | None = None
    """User turns in the conversation, this one included."""
    complexity: Range | None = None
    """0..1, of the last user text: see `policies.routing.complexity`."""
    code: Range | None = None
    """Share of the last user text's lines that look like code, 0..1."""
    language: tuple[str, ...] = ()
    """ISO 639-1 codes of the last user text's likely language, such as "en"; "und" where nothing tells."""
    budget_used: Range | None = None
    """Share of the tenant's budget that is spent or reserved, 0..1; 0 without a budget."""
    load: LoadCondition | None = None
    time: TimeCondition | None = None
    any: tuple["SignalSettings", ...] = ()
    all: tuple["SignalSettings", ...] = ()
    not_: "SignalSettings | None" = msgspec.field(default=None, name="not")
