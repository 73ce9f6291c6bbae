"""Who a client is by its key, what that permits under the policy in force, and what is left of its tenant's limits."""

from actors.api.errors import BadKey
from actors.api.request import ParsedBody
from actors.kernel.clock import WallClock, loop_clock
from actors.routing.key_check import check_body, check_endpoint
from actors.routing.router import Router
from config.model.tenancy import KeyEndpoint
from policies.admission.keys import KeyGrant
from policies.admission.quota import QuotaBook, RateLimits
from policies.queueing.turn_queue import WorkFor


class Clients:
    """For the gateway; it reads only."""

    def __init__(self, router: Router, quota: QuotaBook, wall: WallClock) -> None:
        self._router = router
        self._quota = quota
        self._wall = wall
        self._clock = loop_clock()

    @property
    def keyless(self) -> bool:
        """No key is needed: every client is the same tenant."""
        return not self._router.snapshot.settings.keyed

    def grant_of(self, key: str | None) -> KeyGrant:
        """What the key permits now. Raises BadKey."""
        return self._router.snapshot.grant_of(key, self._wall())

    def tenant_of(self, key: str | None, body: ParsedBody | None = None) -> str:
        """Raises BadKey, and Forbidden if the key may not send this body."""
        grant = self.grant_of(key)
        if body is not None:
            check_body(grant, body)
        return grant.tenant

    def known_tenant(self, key: str | None) -> str:
        """The tenant whose key this is; empty if there is none."""
        try:
            return self.grant_of(key).tenant
        except BadKey:
            return ""

    def grant_for_batch(self, key: str | None, endpoint: KeyEndpoint) -> KeyGrant:
        """What the key permits. Raises BadKey, and Forbidden unless it may be used for batches and this endpoint."""
        grant = self.grant_of(key)
        check_endpoint(grant, "batch")
        check_endpoint(grant, endpoint)
        return grant

    def tiers_above(self, key: str | None, endpoint: KeyEndpoint | None = None) -> int:
        """How many tiers have a higher priority than the key's tenant.

        Raises BadKey, and Forbidden if the key may not use this endpoint.
        """
        grant = self.grant_of(key)
        if endpoint is not None:
            check_endpoint(grant, endpoint)
        return self._router.snapshot.ranks[grant.tenant]

    def work_of(self, key: str | None) -> WorkFor:
        """Whose work it is to read what comes with this key."""
        snapshot = self._router.snapshot
        tenant = self.known_tenant(key)
        return WorkFor(tenant, snapshot.ranks.get(tenant, len(snapshot.ranks)))

    def rate_limits(self, key: str | None) -> RateLimits | None:
        """The remaining limits of this key's tenant; None: it has none, or the key is unknown."""
        tenant = self.known_tenant(key)
        if not tenant:
            return None
        return self._quota.limits(tenant, self._clock())

    def check_scraper(self, key: str | None) -> None:
        """Raises BadKey, and Forbidden for a tenant's key."""
        self._router.snapshot.check_scraper(key, self._wall())
