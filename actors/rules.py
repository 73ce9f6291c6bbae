"""What a policy decides by, as one value: whoever holds it decides everything by the same policy."""

from collections.abc import Mapping

import msgspec

from actors.caller import Caller
from actors.errors import BadKey
from config.settings import Settings
from config.tenants import ANONYMOUS, known_tenants, queue_line
from config.who import TenantSettings
from policies.keys import KeyRing
from policies.language import prepare
from policies.policy import Policy


class Rules(msgspec.Struct, frozen=True):
    """Immutable. A request takes the rules that hold when it comes, and keeps them."""

    settings: Settings
    policy: Policy
    tenants: Mapping[str, TenantSettings]
    callers: Mapping[tuple[str, str], Caller]
    """By tenant and tier: a spent budget may move a tenant into another one."""
    keys: KeyRing

    @classmethod
    def of(cls, settings: Settings, tokenizers: Mapping[str, str]) -> "Rules":
        """`tokenizers`: a digest for each rung; equal ones let token ids pass from one rung to the other."""
        tenants = known_tenants(settings)
        callers = {
            (tenant, name): Caller.of(tenant, queue_line(tenant, given, name), name, tier.priority)
            for tenant, given in tenants.items()
            for name, tier in settings.tiers.items()
        }
        policy = Policy.compile(settings, tokenizers)
        if "language" in policy.needs:
            prepare()
        return cls(settings, policy, tenants, callers, KeyRing(settings.keys))

    def tenant_of(self, key: str | None) -> str:
        """Who asks. Raises BadKey."""
        if not self.settings.keys:
            return ANONYMOUS
        tenant = self.keys.authenticate(key) if key is not None else None
        if tenant is None:
            raise BadKey(missing=key is None)
        return tenant
