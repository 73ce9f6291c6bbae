"""The settings, typed: what a TOML file can say, with defaults. Loading and checking live beside this file.

In TOML a duration is a string with a unit ("500ms", "2s", "10m", "1d"), a size likewise ("64MiB"); here they are
`Seconds` (float) and `Bytes` (int). Unknown keys are errors.
"""

from pathlib import Path
from typing import Literal

import msgspec


class Seconds(float):
    """A duration; written "250ms", "2s", "10m", "6h" or "1d" in TOML."""


class Bytes(int):
    """A size; written "512KiB", "64MiB" or "2GiB" in TOML."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TOML table: frozen, keyword only, no unknown keys."""


class ServerSettings(_Table, frozen=True):
    """Where the edge listens and what it bounds."""

    host: str = "127.0.0.1"
    port: int = 8080
    max_body: Bytes = Bytes(4 * 2**20)
    max_connections: int = 1000
    max_choices: int = 16
    """`n` times the number of prompts in one request."""
    header_timeout: Seconds = Seconds(10)
    keep_alive: Seconds = Seconds(75)
    heartbeat: Seconds = Seconds(10)
    """An SSE comment is sent to a stream that was silent this long."""
    write_stall: Seconds = Seconds(20)
    """A reader that takes nothing for this long is cut."""
    drain: Seconds = Seconds(25)
    """After SIGTERM running requests may go on this long; then they get their terminal error event."""
    ws_origins: tuple[str, ...] = ()
    """Browser origins (exact) that may open a WebSocket, and without keys ask at all; others send no Origin and may."""


class LedgerSettings(_Table, frozen=True):
    """Where usage is written down."""

    path: Path = Path("penstock.sqlite3")
    """Relative to the working directory; ":memory:" keeps it in memory."""


class KVSettings(_Table, frozen=True):
    """The paged KV cache of one engine."""

    memory: Bytes = Bytes(64 * 2**20)
    block_size: int = 16


class Speculate(_Table, frozen=True):
    """Drafts by n-gram look-up: what followed these tokens the last time is expected to follow again.

    It changes when tokens come, never which. It pays where answers repeat their prompt, and costs where they do not.
    """

    ngram: int = 3
    """Tokens that must be the same."""
    tokens: int = 8
    """Length of a draft."""


class EngineSettings(_Table, frozen=True):
    """A model that this process runs."""

    model: Path
    """A directory with config.json, *.safetensors, tokenizer.json; relative to the TOML file."""
    device: str = "cpu"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = 1
    kv: KVSettings = KVSettings()
    max_running: int = 32
    """Sequences that decode in one batch."""
    max_step_tokens: int = 512
    """Tokens (prefill and decode) of one step at the most."""
    prefill_chunk: int = 256
    """Prompt tokens of one sequence in one step at the most."""
    max_model_len: int | None = None
    """None: the model's own `max_position_embeddings`."""
    prefix_cache: bool = True
    speculate: Speculate | None = None
    stall: Seconds = Seconds(30)
    """No step finished for this long while there is work: the engine is unhealthy."""


class ModelSettings(_Table, frozen=True):
    """A name that clients may put into `model`."""

    description: str = ""


class SLO(_Table, frozen=True):
    """What a tier promises."""

    ttft: Seconds = Seconds(2)
    itl: Seconds = Seconds(0.2)


class QueueLimits(_Table, frozen=True):
    """Bounds of a tier's share of the queue; the first one reached refuses."""

    wait: Seconds = Seconds(30)
    requests: int = 256
    tokens: int = 1_000_000
    bytes: Bytes = Bytes(64 * 2**20)


class TierSettings(_Table, frozen=True):
    """A class of service. A higher priority is served first, always."""

    priority: int = 0
    slo: SLO = SLO()
    queue: QueueLimits = QueueLimits()
    admit_below: float = 1.0
    """Refused while the queue is fuller than this share of its bounds."""


class TokenQuota(_Table, frozen=True):
    """Prompt plus output tokens that a tenant may use; None is unlimited."""

    per_minute: int | None = None
    per_day: int | None = None


class TenantSettings(_Table, frozen=True):
    """Who pays: keys belong to a tenant, quotas and fairness count by tenant."""

    tier: str = "default"
    weight: float = 1.0
    tokens: TokenQuota = TokenQuota()
    requests_per_minute: int | None = None
    concurrent: int | None = None
    """Requests in flight at the most."""


class KeySettings(_Table, frozen=True):
    """An API key `prefix_id_secret`: made by `penstock keys new`, of which only the hash is kept here."""

    id: str
    tenant: str
    hash: str
    """SHA-256 of the whole key, hex; the secret has 256 random bits, so no slow hash is needed."""


class SignalSettings(_Table, frozen=True):
    """A condition. All the fields that are given must hold; lists hold if any member does."""

    model: tuple[str, ...] = ()
    tenant: tuple[str, ...] = ()
    tier: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    """Values of the request header `x-penstock-tags` (comma separated)."""
    signal: tuple[str, ...] = ()
    """Names of entries of [signals]."""
    prompt_tokens: "Range | None" = None
    complexity: "Range | None" = None
    load: "LoadCondition | None" = None
    any: tuple["SignalSettings", ...] = ()
    all: tuple["SignalSettings", ...] = ()
    not_: "SignalSettings | None" = msgspec.field(default=None, name="not")


class Range(_Table, frozen=True):
    """Bounds of a number; both are inclusive below and exclusive above."""

    at_least: float | None = None
    below: float | None = None


class LoadCondition(_Table, frozen=True):
    """Live load of one engine."""

    of: str
    queue_wait_over_slo: Range | None = None
    """Expected wait divided by the tier's TTFT promise."""
    kv_usage: Range | None = None


class Use(_Table, frozen=True):
    """What a route uses: exactly one of the two."""

    cascade: str | None = None
    ladder: str | None = None


class Deadlines(_Table, frozen=True):
    """Counted from the request's arrival (`stall`: between two tokens)."""

    ttft: Seconds = Seconds(30)
    stall: Seconds = Seconds(15)
    total: Seconds = Seconds(120)


class Caps(_Table, frozen=True):
    """Upper bounds that a route sets."""

    output_tokens: int | None = None


class RouteSettings(_Table, frozen=True):
    """The first route whose `when` holds takes the request."""

    name: str
    use: Use
    when: SignalSettings = SignalSettings()
    owner: str = ""
    comment: str = ""
    deadlines: Deadlines = Deadlines()
    caps: Caps = Caps()
    midstream: Literal["error", "continue", "restart"] = "error"


class Defer(_Table, frozen=True, kw_only=True):
    """When the small model's answer is not trusted."""

    statistic: Literal["min_margin"] = "min_margin"
    threshold: float
    """Nats: an answer with a smaller margin at any token escalates."""


class Emit(_Table, frozen=True):
    """What the client sees while it is undecided: nothing (`gate`), or all but the last `window` tokens."""

    mode: Literal["gate", "window"] = "gate"
    window: int = 8


class WhenBusy(_Table, frozen=True):
    """Stay on a stage while a signal holds; hysteresis by `release_at` (of the same measure) and `dwell`."""

    signal: str
    stay_on: str
    release_at: float
    dwell: Seconds = Seconds(10)


class CascadeSettings(_Table, frozen=True, kw_only=True):
    """Start small, escalate when the small model is probably wrong."""

    stages: tuple[str, ...]
    """Engines, smallest first; exactly two for now."""
    defer: Defer
    emit: Emit = Emit()
    skip_to_large: SignalSettings | None = None
    when_busy: WhenBusy | None = None
    on_failure: str
    """The ladder that takes over when a stage cannot serve."""


class BreakerSettings(_Table, frozen=True):
    """When a rung is left alone."""

    failure_rate: float = 0.5
    over: Seconds = Seconds(30)
    at_least: int = 10
    open: Seconds = Seconds(5)
    probes: int = 3


class RungSettings(_Table, frozen=True):
    """One rung: an engine (`to`) or a static answer (`answer`), exactly one of them."""

    to: str | None = None
    answer: str | None = None
    ttft: Seconds | None = None
    """Time to the first token on this rung; None: whatever the route still allows."""
    retries: int = 0
    breaker: BreakerSettings = BreakerSettings()
    mark: str | None = None
    """A word that the response carries when this rung answered, such as "degraded"."""


class RetryBudget(_Table, frozen=True):
    """Retries allowed in relation to requests, shared by all: keeps a failing rung from being hammered."""

    ratio: float = 0.2
    min_per_second: float = 1.0


class Settings(_Table, frozen=True, kw_only=True):
    """The whole file."""

    schema: Literal[1]
    server: ServerSettings = ServerSettings()
    ledger: LedgerSettings = LedgerSettings()
    engines: dict[str, EngineSettings]
    models: dict[str, ModelSettings]
    tiers: dict[str, TierSettings] = msgspec.field(default_factory=lambda: {"default": TierSettings()})
    tenants: dict[str, TenantSettings] = msgspec.field(default_factory=dict)
    keys: tuple[KeySettings, ...] = ()
    """No keys: everybody is the tenant "anonymous" (tier "default" or [tenants.anonymous]), on loopback only."""
    signals: dict[str, SignalSettings] = msgspec.field(default_factory=dict)
    routes: tuple[RouteSettings, ...]
    cascades: dict[str, CascadeSettings] = msgspec.field(default_factory=dict)
    ladders: dict[str, tuple[RungSettings, ...]] = msgspec.field(default_factory=dict)
    retry_budget: RetryBudget = RetryBudget()
