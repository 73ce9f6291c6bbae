"""The tier of batches, below all others. No setting names it; each tenant has a queue in it."""

from collections.abc import Mapping

import msgspec

from config.model.table import Bytes, Seconds
from config.model.tenancy import QueueLimits, TenantSettings, TierSettings
from config.tenants import tenant_queue_name

TIER = "(batch)"
_LIMITS = QueueLimits(wait=Seconds(86_400), requests=10_000, tokens=1_000_000_000, bytes=Bytes(2**40))
"""What waits is bounded by what is in flight (`BatchFlow`)."""


def batch_tier(tiers: Mapping[str, TierSettings]) -> TierSettings:
    """Below all of these, and below copies (`policies.rollout.shadow`)."""
    return TierSettings(priority=min(tier.priority for tier in tiers.values()) - 2, queue=_LIMITS, admit_by="queue")


def batch_queues(
    tiers: Mapping[str, TierSettings], tenants: Mapping[str, TenantSettings]
) -> tuple[Mapping[str, TierSettings], Mapping[str, TenantSettings]]:
    """The tiers and tenants of a fair queue for requests of batches only."""
    queues = {
        tenant_queue_name(name, tenant, TIER): msgspec.structs.replace(tenant, tier=TIER)
        for name, tenant in tenants.items()
    }
    return {TIER: batch_tier(tiers)}, queues
