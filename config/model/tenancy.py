"""Who asks, what they are promised, and what they may spend."""

from typing import Literal

from config.model.table import Bytes, Seconds, Table


class SLO(Table, frozen=True):
    """What a tier promises."""

    ttft: Seconds = Seconds(2)
    itl: Seconds = Seconds(0.2)


class QueueLimits(Table, frozen=True):
    """Bounds of a tier's share of the queue; the first one reached refuses."""

    wait: Seconds = Seconds(30)
    requests: int = 256
    tokens: int = 1_000_000
    bytes: Bytes = Bytes(64 * 2**20)


class TierSettings(Table, frozen=True):
    """A class of service. A higher priority is served first, always."""

    priority: int = 0
    slo: SLO = SLO()
    queue: QueueLimits = QueueLimits()
    admit_below: float = 1.0
    """Refused while the queue is fuller than this share of its bounds."""


class TokenQuota(Table, frozen=True):
    """Prompt plus output tokens that a tenant may use; None is unlimited."""

    per_minute: int | None = None
    per_day: int | None = None


class Budget(Table, frozen=True, kw_only=True):
    """Money that a tenant may spend in a period of the calendar (UTC), by [prices]."""

    amount: float
    per: Literal["hour", "day", "month"] = "day"
    when_spent: Literal["refuse", "downgrade", "small_only"] = "refuse"
    """Of a request that may cost more than is left. refuse: 429 until the period ends. downgrade: served in the tier
    `downgrade_to`. small_only: cascades stay on their small stage, and of a ladder only the cheapest rung and static
    answers are left. What these leave must fit, too; rungs without a price always do."""
    downgrade_to: str | None = None


class TenantSettings(Table, frozen=True):
    """Who pays: keys belong to a tenant, quotas and fairness count by tenant."""

    tier: str = "default"
    weight: float = 1.0
    tokens: TokenQuota = TokenQuota()
    requests_per_minute: int | None = None
    concurrent: int | None = None
    """Requests in flight at the most."""
    budget: Budget | None = None


class Price(Table, frozen=True, kw_only=True):
    """Money for a million tokens of one rung."""

    input: float
    output: float
    cached_input: float | None = None
    """For prompt tokens that the prefix cache supplied; None: the same as `input`."""


class KeySettings(Table, frozen=True):
    """An API key `prefix_id_secret`: made by `penstock keys new`, of which only the hash is kept here."""

    id: str
    tenant: str
    hash: str
    """SHA-256 of the whole key, hex; the secret has 256 random bits, so no slow hash is needed."""
