"""A compiled policy with its settings, as one immutable value: its holder decides everything by the same policy."""

from collections.abc import Iterable, Mapping

import msgspec

from actors.api.errors import BadKey, Forbidden
from actors.api.request import Principal
from config.model.settings import AdminKey, MetricsKey, Settings
from config.model.tenancy import KeySettings, TenantSettings
from config.tenants import ANONYMOUS, known_tenants, tenant_queue_name
from policies.admission.keys import KeyRing
from policies.routing.language import prepare
from policies.routing.policy import Policy


class PolicySnapshot(msgspec.Struct, frozen=True):
    """Immutable. A request takes the rules that hold when it comes, and keeps them."""

    settings: Settings
    policy: Policy
    tenants: Mapping[str, TenantSettings]
    callers: Mapping[tuple[str, str], Principal]
    """By tenant and tier: a spent budget may move a tenant into another one."""
    keys: KeyRing
    operators: tuple[KeyRing, KeyRing]
    """The keys of the admin API, and those that open `/metrics` only."""
    ranks: Mapping[str, int]
    """By tenant: how many priorities of other tenants are above its own."""

    @classmethod
    def of(cls, settings: Settings, tokenizers: Mapping[str, str]) -> "PolicySnapshot":
        """`tokenizers`: a digest for each rung; equal ones let token ids pass from one rung to the other."""
        tenants = known_tenants(settings)
        callers = {
            (tenant, name): Principal.of(tenant, tenant_queue_name(tenant, given, name), name, tier.priority)
            for tenant, given in tenants.items()
            for name, tier in settings.tiers.items()
        }
        policy = Policy.compile(settings, tokenizers)
        if "language" in policy.needs:
            prepare()
        operators = (_ring("admin", settings.admin.keys), _ring("metrics", settings.metrics.keys))
        ranks = _ranks(settings, tenants)
        return cls(settings, policy, tenants, callers, KeyRing(settings.keys), operators, ranks)

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

    def check_scraper(self, key: str | None) -> None:
        """Whether this key opens `/metrics`, as those of operators and scrapers do. Raises BadKey and Forbidden."""
        if not self.settings.keys and not self.settings.metrics.keys:
            return
        if key is not None and any(ring.authenticate(key) is not None for ring in self.operators):
            return
        if key is not None and self.keys.authenticate(key) is not None:
            raise Forbidden(
                "metrics_key_needed",
                "A tenant's key does not open /metrics, where the figures of all tenants are. Make a key for the "
                "scraper with `penstock keys new --metrics`, or use one of the admin API.",
            )
        raise BadKey(missing=key is None)


def _ring(name: str, keys: Iterable[AdminKey | MetricsKey]) -> KeyRing:
    return KeyRing([KeySettings(id=each.id, tenant=name, hash=each.hash) for each in keys])


def _ranks(settings: Settings, tenants: Mapping[str, TenantSettings]) -> dict[str, int]:
    priorities = {name: settings.tiers[tenant.tier].priority for name, tenant in tenants.items()}
    return {name: len({each for each in priorities.values() if each > own}) for name, own in priorities.items()}
