"""Settings of tenants, tiers, API keys, quotas, budgets and prices."""

import re
from typing import Annotated, Literal

import msgspec

from config.model.bounds import Count, NonNegative, Positive, PositiveShare, within
from config.model.table import Bytes, Moment, PositiveBytes, PositiveSeconds, Seconds, Table

KEY_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
"""What may be a key's id."""
KEY_HASH = re.compile(r"[0-9a-f]{64}")
"""SHA-256, in hex."""


KeyEndpoint = Literal[
    "chat", "completions", "embeddings", "responses", "tokenize", "scores", "moderations", "decisions", "batch"
]  # fmt: skip
"""What a key may be limited to. A batch needs "batch" and what its requests need."""


class SLO(Table, frozen=True):
    """Service level objectives of a tier: time to first token and inter-token latency."""

    ttft: PositiveSeconds = Seconds(2)
    itl: PositiveSeconds = Seconds(0.2)


class QueueLimits(Table, frozen=True):
    """Limits of a tier in a queue. A request that exceeds any of them is refused."""

    wait: PositiveSeconds = Seconds(30)
    requests: Count = 256
    tokens: Count = 1_000_000
    bytes: PositiveBytes = Bytes(64 * 2**20)


class TierSettings(Table, frozen=True):
    """A class of service. Tiers of higher priority are always served first."""

    priority: int = 0
    slo: SLO = SLO()
    queue: QueueLimits = QueueLimits()
    admit_below: PositiveShare = 1.0
    """Refused while the queue is fuller than this share of its bounds."""
    admit_by: Literal["slo", "deadline", "queue"] = "deadline"
    """When a request is refused before it waits. slo: its first token is expected after `slo.ttft`. deadline: after the
    route's and the rung's `ttft`. queue: only if the queue is full."""


class TokenQuota(Table, frozen=True):
    """Limits on a tenant's prompt plus output tokens; None: unlimited."""

    per_minute: Count | None = None
    per_day: Count | None = None


class Budget(Table, frozen=True, kw_only=True):
    """Money that a tenant may spend in a calendar period (UTC), by [prices]."""

    amount: Positive
    per: Literal["hour", "day", "month"] = "day"
    when_spent: Literal["refuse", "downgrade", "small_only"] = "refuse"
    """What happens to a request that may cost more than the remaining budget. refuse: 429 until the period ends.
    downgrade: it is served in the tier `downgrade_to`. small_only: cascades stay on their small stage, and ladders use
    only their cheapest rung and static answers. The changed request must fit into the budget as well; rungs without a
    price always do."""
    downgrade_to: str | None = None


class TenantSettings(Table, frozen=True):
    """A customer: keys belong to a tenant; quotas, budgets and fair queueing are by tenant."""

    tier: str = "default"
    weight: Annotated[float, within(0.001, 1000)] = 1.0
    tokens: TokenQuota = TokenQuota()
    requests_per_minute: Count | None = None
    concurrent: Count | None = None
    """Maximum number of requests in flight."""
    budget: Budget | None = None
    cache_domain: str | None = None
    """Tenants with the same domain find each other's prompts in the prefix cache, in times and in `cached_tokens`.
    None: the tenant finds its own only, and no other tenant finds them."""


class Price(Table, frozen=True, kw_only=True):
    """The price of a million tokens on one rung."""

    input: NonNegative
    output: NonNegative
    cached_input: NonNegative | None = None
    """Price of prompt tokens that the prefix cache supplies; None: the same as `input`."""


class KeySettings(Table, frozen=True):
    """An API key `prefix_id_secret`, made by `penstock keys new --tenant NAME`. Only its hash is stored here."""

    id: str
    tenant: str
    hash: str
    """SHA-256 of the whole key, hex; the secret has 256 random bits, so no slow hash is needed."""
    expires: Moment | None = None
    """From then on the key is refused (401 `api_key_expired`); answers that run then end as they would. None: never."""
    models: tuple[str, ...] = ()
    """What the key may ask for: names, with * as a wildcard ("small*", "penstock:*" for its adapters). Empty: all."""
    endpoints: tuple[KeyEndpoint, ...] = ()
    """What the key may use; on a WebSocket, too. Empty: all."""


class StoredKeys(msgspec.Struct, frozen=True):
    """The tenants' keys in the keys file, in the order in which they were made."""

    keys: tuple[KeySettings, ...] = ()
