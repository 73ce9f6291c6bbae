"""The tenants of the settings, and the names of their queues and cache domains."""

from collections.abc import Mapping

import msgspec

from config.model.settings import Settings
from config.model.tenancy import TenantSettings

ANONYMOUS = "anonymous"
"""The tenant of all requests if the settings have no keys."""


def known_tenants(settings: Settings) -> dict[str, TenantSettings]:
    """The settings' tenants; where no key is needed also `ANONYMOUS`, as it is defined, or with default settings."""
    tenants = dict(settings.tenants)
    if not settings.keyed:
        tenants.setdefault(ANONYMOUS, TenantSettings())
    return tenants


def cache_domain(name: str, tenant: TenantSettings) -> str:
    """Whose cached prefixes a tenant's requests find: its own, or those of all tenants of the domain that it names."""
    return f"tenant {name}" if tenant.cache_domain is None else f"domain {tenant.cache_domain}"


def tenant_queues(tenants: Mapping[str, TenantSettings]) -> dict[str, TenantSettings]:
    """By name, the tenant queues of a fair queue: one for each tenant, and one more if its budget can downgrade it."""
    queues = dict(tenants)
    for name, tenant in tenants.items():
        budget = tenant.budget
        if budget is not None and budget.when_spent == "downgrade" and budget.downgrade_to is not None:
            queue = tenant_queue_name(name, tenant, budget.downgrade_to)
            queues[queue] = msgspec.structs.replace(tenant, tier=budget.downgrade_to)
    return queues


def tenant_queue_name(name: str, tenant: TenantSettings, tier: str) -> str:
    """The name of the queue for a tenant's requests of this tier."""
    return name if tier == tenant.tier else f"{name} in {tier}"
