"""Who asks, as far as engines and queues care."""

from hashlib import blake2b

import msgspec


class Principal(msgspec.Struct, frozen=True, gc=False):
    """Who asks, as far as engines and queues care."""

    tenant: str
    line: str
    """Under which name its requests wait: see `config.tenants.tenant_queue_name`."""
    tier: str
    priority: int
    cache_salt: bytes

    @classmethod
    def of(cls, tenant: str, line: str, tier: str, priority: int) -> "Principal":
        """The salt keeps tenants from finding each other's prompts in the prefix cache."""
        return cls(
            tenant, line, tier, priority, blake2b(tenant.encode(), digest_size=16, person=b"prefix cache").digest()
        )
