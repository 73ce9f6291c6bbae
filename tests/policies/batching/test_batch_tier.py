"""The queue of batches is apart from the tiers, and below them."""

from config.model.tenancy import TenantSettings, TierSettings
from policies.batching.batch_tier import TIER, batch_queues, batch_tier
from policies.rollout.shadow import shadow_tier

TIERS = {"gold": TierSettings(priority=5), "free": TierSettings(priority=-3)}


def test_it_is_below_all_tiers_and_below_copies() -> None:
    assert batch_tier(TIERS).priority < shadow_tier(TIERS).priority < -3


def test_each_tenant_has_a_queue_with_its_weight() -> None:
    tiers, tenants = batch_queues(TIERS, {"acme": TenantSettings(tier="gold", weight=3.0)})
    assert list(tiers) == [TIER]
    assert tenants["acme in (batch)"].weight == 3.0
    assert tenants["acme in (batch)"].tier == TIER
