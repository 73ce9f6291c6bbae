"""Who the tenants are."""

from config.settings import Settings
from config.who import TenantSettings

ANONYMOUS = "anonymous"
"""The tenant of everybody while there are no keys."""


def known_tenants(settings: Settings) -> dict[str, TenantSettings]:
    """The settings' tenants; without keys also the anonymous one, in the default tier unless the settings say more."""
    tenants = dict(settings.tenants)
    if not settings.keys:
        tenants.setdefault(ANONYMOUS, TenantSettings())
    return tenants
