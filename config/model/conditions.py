"""Conditions on a request and on the live load, as typed tables instead of expressions in strings."""

from typing import Literal

import msgspec

from config.model.table import ClockTime, Range, Table

Has = Literal["tools", "schema", "stream", "choices", "logprobs", "seed", "stop", "image", "audio", "file"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
BreakerStateName = Literal["closed", "open", "half_open"]


class LoadCondition(Table, frozen=True):
    """A condition on the live load of one rung. It holds if all given fields do."""

    of: str
    queue_wait_over_slo: Range | None = None
    """Expected wait divided by the tier's TTFT objective (slo.ttft)."""
    kv_usage: Range | None = None
    """Share of the KV blocks in use, 0..1; engines only."""
    breaker: tuple[BreakerStateName, ...] = ()
    """Holds in any of these states."""


class TimeCondition(Table, frozen=True):
    """A span of wall-clock time in a time zone.

    If `to` is not after `from`, the span extends past midnight; `days` are the days on which it begins.
    """

    from_: ClockTime = msgspec.field(default=ClockTime(0), name="from")
    to: ClockTime = ClockTime(24 * 60)
    days: tuple[Day, ...] = ()
    """Empty: every day."""
    zone: str = "UTC"
    """A name of the IANA time zone database, such as "Europe/Berlin"."""


class SignalSettings(Table, frozen=True):
    """A condition. It holds if all given fields do; a list holds if any of its members does."""

    model: tuple[str, ...] = ()
    tenant: tuple[str, ...] = ()
    tier: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    """Values of the request header `x-penstock-tags` (comma separated)."""
    header: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """By header name in lower case: the accepted values. Every header given here must have one of its values."""
    path: tuple[str, ...] = ()
    """The path: "/v1/chat/completions", "/v1/completions", "/v1/stream"."""
    has: tuple[Has, ...] = ()
    """Features of the request: holds if it uses any of these."""
    signal: tuple[str, ...] = ()
    """Names of entries of [signals]."""
    prompt_tokens: Range | None = None
    max_tokens: Range | None = None
    """Output tokens that the client allows; 0 if the request has no limit."""
    turn: Range | None = None
    """User turns in the conversation, this one included."""
    complexity: Range | None = None
    """0..1, of the last user text: see `policies.routing.complexity`."""
    code: Range | None = None
    """Share of the last user text's lines that look like code, 0..1."""
    language: tuple[str, ...] = ()
    """ISO 639-1 codes of the last user text's likely language, such as "en"; "und" if it is undetermined."""
    budget_used: Range | None = None
    """Share of the tenant's budget that is spent or reserved, 0..1; 0 without a budget."""
    load: LoadCondition | None = None
    time: TimeCondition | None = None
    any: tuple["SignalSettings", ...] = ()
    all: tuple["SignalSettings", ...] = ()
    not_: "SignalSettings | None" = msgspec.field(default=None, name="not")


NUMBERS = tuple(field.name for field in msgspec.structs.fields(SignalSettings) if field.type == Range | None)
"""The numeric fields of a condition. The features of a request have the same names."""
INTEGERS = frozenset({"prompt_tokens", "max_tokens", "turn"})
"""Those of `NUMBERS` that are whole numbers."""
