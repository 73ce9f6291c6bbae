"""Who the tenants are."""

from collections.abc import Mapping

import msgspec

from config.model.settings import Settings
from config.model.tenancy import TenantSettings

ANONYMOUS = "anonymous"
"""The tenant of everybody while there are no keys."""


def known_tenants(settings: Settings) -> dict[str, TenantSettings]:
    """The settings' tenants; without keys also the anonymous one, in the default tier unless the settings say more."""
    tenants = dict(settings.tenants)
    if not settings.keys:
        tenants.setdefault(ANONYMOUS, TenantSettings())
    return tenants


def queue_lines(tenants: Mapping[str, TenantSettings]) -> dict[str, TenantSettings]:
    """Who waits in the fair queues: the tenants, and once more, in the other tier, those that may be downgraded."""
    lines = dict(tenants)
    for name, tenant in tenants.items():
        budget = tenant.budget
        if budget is not None and budget.when_spent == "downgrade" and budget.downgrade_to is not None:
            lines[queue_line(name, tenant, budget.downgrade_to)] = msgspec.structs.replace(
                tenant, tier=budget.downgrade_to
            )
    return lines


def queue_line(name: str, tenant: TenantSettings, tier: str) -> str:
    """Under which name a tenant's requests of this tier wait."""
    return name if tier == tenant.tier else f"{name} in {tier}"
