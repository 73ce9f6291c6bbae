"""What a policy decides by, as one value: whoever holds it decides everything by the same policy."""

from collections.abc import Mapping

import msgspec

from actors.caller import Caller
from actors.errors import BadKey
from config.settings import Settings
from config.tenants import ANONYMOUS, known_tenants, queue_line
from config.who import TenantSettings
from policies.keys import KeyRing
from policies.policy import Policy


class Rules(msgspec.Struct, frozen=True):
    """Immutable. A request takes the rules that hold when it comes, and keeps them."""

    settings: Settings
    policy: Policy
    tenants: Mapping[str, TenantSettings]
    callers: Mapping[tuple[str, str], Caller]
    """By tenant and tier: a spent budget may move a tenant into another one."""
    keys: KeyRing
    ranks: Mapping[str, int]
    """By tenant: how many priorities of other tenants are above its own."""

    @classmethod
    def of(cls, settings: Settings, tokenizers: Mapping[str, str]) -> "Rules":
        """`tokenizers`: a digest for each rung; equal ones let token ids pass from one rung to the other."""
        tenants = known_tenants(settings)
        callers = {
            (tenant, name): Caller.of(tenant, queue_line(tenant, given, name), name, tier.priority)
            for tenant, given in tenants.items()
            for name, tier in settings.tiers.items()
        }
        return cls(
            settings,
            Policy.compile(settings, tokenizers),
            tenants,
            callers,
            KeyRing(settings.keys),
            _ranks(settings, tenants),
        )

    def tiers_above(self, key: str | None) -> int:
        """How many classes of priority come before that of the key's tenant. Raises BadKey."""
        return self.ranks[self.tenant_of(key)]

    def tenant_of(self, key: str | None) -> str:
        """Who asks. Raises BadKey."""
        if not self.settings.keys:
            return ANONYMOUS
        tenant = self.keys.authenticate(key) if key is not None else None
        if tenant is None:
            raise BadKey(missing=key is None)
        return tenant


def _ranks(settings: Settings, tenants: Mapping[str, TenantSettings]) -> dict[str, int]:
    priorities = {name: settings.tiers[tenant.tier].priority for name, tenant in tenants.items()}
    return {name: len({each for each in priorities.values() if each > own}) for name, own in priorities.items()}
