"""What plans are made by: the compiled policy in force, as one immutable value with its settings, and the live load.

Both are read without waiting. A request keeps the snapshot that was in force when it came.
"""

from collections.abc import Mapping

import msgspec

from actors.api.errors import BadKey, Forbidden, KeyExpired, UnknownModel
from actors.api.request import Principal
from actors.breakers.breakers import BreakerRegistry
from actors.kernel.clock import WallClock
from actors.queue.dispatcher import Backend
from actors.routing.key_check import check_role, granted
from config.model.settings import Settings
from config.model.tenancy import StoredKeys, TenantSettings
from config.tenants import ANONYMOUS, cache_domain, known_tenants, tenant_queue_name
from policies.admission.keys import KeyGrant, KeyRing
from policies.batching.batch_tier import TIER as BATCH_TIER
from policies.batching.batch_tier import batch_tier
from policies.errors import NoSuchModel
from policies.model.load import EngineLoad, Load
from policies.rollout.rollout_state import RolloutState
from policies.routing.busy import BusyBook
from policies.routing.language import prepare
from policies.routing.planner import find_model
from policies.routing.policy import Policy

_FRESH_S = 0.02
"""How long a published load is used."""
_RATE_MEMORY = 0.2


class PolicySnapshot(msgspec.Struct, frozen=True):
    """Immutable. A request keeps the snapshot that was in force when it came."""

    settings: Settings
    policy: Policy
    tenants: Mapping[str, TenantSettings]
    callers: Mapping[tuple[str, str], Principal]
    """By tenant and tier: a spent budget may change the tier."""
    keys: KeyRing
    operators: tuple[KeyRing, KeyRing]
    """The keys of the admin API, and those for `/metrics` only."""
    ranks: Mapping[str, int]
    """By tenant: how many priorities of other tenants are above its own."""

    @classmethod
    def of(cls, settings: Settings, tokenizers: Mapping[str, str]) -> "PolicySnapshot":
        """`tokenizers`: a digest for each rung; equal ones let token ids pass from one rung to the other."""
        tenants = known_tenants(settings)
        callers = {
            (tenant, name): Principal.of(
                tenant, tenant_queue_name(tenant, given, name), name, tier.priority, cache_domain(tenant, given)
            )
            for tenant, given in tenants.items()
            for name, tier in {**settings.tiers, BATCH_TIER: batch_tier(settings.tiers)}.items()
        }
        policy = Policy.compile(settings, tokenizers)
        if "language" in policy.needs:
            prepare()
        operators = (KeyRing(settings.admin.keys), KeyRing(settings.metrics.keys))
        ranks = _ranks(settings, tenants)
        return cls(settings, policy, tenants, callers, _ring(settings), operators, ranks)

    def with_stored(self, stored: StoredKeys) -> "PolicySnapshot":
        """The same with what is in the keys file now."""
        settings = self.settings
        settings = msgspec.structs.replace(settings, admin=msgspec.structs.replace(settings.admin, stored=stored))
        return msgspec.structs.replace(self, settings=settings, keys=_ring(settings))

    def grant_of(self, key: str | None, at: float) -> KeyGrant:
        """What a client's key permits at `at`, seconds since 1970. Raises BadKey."""
        return granted(self.keys, key, at) if self.settings.keyed else _ANYONE

    def check_scraper(self, key: str | None, at: float) -> None:
        """Whether this key opens `/metrics`, as those of operators and scrapers do. Raises BadKey and Forbidden."""
        if not self.settings.keyed and not self.settings.metrics.keys:
            return
        try:
            self.check_operator_or_scraper(key, at)
        except BadKey:
            if key is not None and isinstance(self.keys.authenticate(key, at), KeyGrant):
                raise Forbidden(
                    "metrics_key_needed",
                    "A tenant's key does not open /metrics, where the figures of all tenants are. Make a key for the "
                    "scraper with `penstock keys new --metrics`, or use one of the admin API.",
                ) from None
            raise

    def check_operator_or_scraper(self, key: str | None, at: float) -> None:
        """Raises BadKey, and Forbidden for an operator's key that may not read."""
        admins, scrapers = self.operators
        try:
            grant = granted(admins, key, at)
        except BadKey as refusal:
            # A key that has expired is in this list, whatever the other one says.
            if isinstance(refusal, KeyExpired):
                raise
            granted(scrapers, key, at)
        else:
            check_role(grant, "read")


_ANYONE = KeyGrant(ANONYMOUS)


def _ring(settings: Settings) -> KeyRing:
    return KeyRing((*settings.keys, *settings.stored_keys))


def _ranks(settings: Settings, tenants: Mapping[str, TenantSettings]) -> dict[str, int]:
    priorities = {name: settings.tiers[tenant.tier].priority for name, tenant in tenants.items()}
    return {name: len({each for each in priorities.values() if each > own}) for name, own in priorities.items()}


class Router:
    """Synchronous: it reads what actors publish, and writes only its own state."""

    def __init__(
        self,
        snapshot: PolicySnapshot,
        backend_queues: Mapping[str, Backend],
        breakers: BreakerRegistry,
        rollout: RolloutState,
        wall: WallClock,
    ) -> None:
        self.snapshot = snapshot
        self._backend_queues = backend_queues
        self._breakers = breakers
        self._rollout = rollout
        self._wall = wall
        self._busy = BusyBook(snapshot.settings)
        self._load = Load()
        self._published_at = float("-inf")
        self._made: dict[str, tuple[int, float]] = {}

    def apply_settings(self, snapshot: PolicySnapshot) -> None:
        """Replace the settings. A busy cascade stays busy until its load is below the new bounds."""
        self.snapshot = snapshot
        self._busy.apply_settings(snapshot.settings)

    def find_model(self, requested: str) -> tuple[str, str]:
        """The model and the adapter of a client's `model`: NAME or NAME:ADAPTER. Raises UnknownModel."""
        try:
            return find_model(requested, self.snapshot.settings.models, self.adapters_of)
        except NoSuchModel as error:
            raise UnknownModel(str(error)) from None

    def adapters_of(self, model: str) -> tuple[str, ...]:
        """The adapters that clients may request with this model: loaded on some rung that may serve it."""
        settings = self.snapshot.settings.models.get(model)
        if settings is None or not settings.adapters:
            return ()
        rungs = self.snapshot.policy.rungs_of(model)
        return tuple(sorted({name for rung in rungs for name in self._backend_queues[rung].published.adapters}))

    def load(self, now: float) -> Load:
        """The load as it was at most `_FRESH_S` ago."""
        if now - self._published_at >= _FRESH_S:
            self._publish(now)
        elif self._rollout.steers:
            # Each decision has its own: a burst's thousand may come before the next look at the engines.
            self._load = msgspec.structs.replace(self._load, thresholds=self._rollout.thresholds(self._wall()))
        return self._load

    def _publish(self, now: float) -> None:
        passed = now - self._published_at
        engines = {
            name: self._engine_load(name, backend_queue, now, passed)
            for name, backend_queue in self._backend_queues.items()
        }
        load = Load(engines=engines, breakers=self._breakers.views(now))
        self._load = Load(
            engines=engines,
            breakers=load.breakers,
            busy=self._busy.update(load, now),
            thresholds=self._rollout.thresholds(self._wall()),
            rolled_back=self._rollout.rolled_back,
        )
        self._published_at = now

    def _engine_load(self, name: str, backend_queue: Backend, now: float, passed_s: float) -> EngineLoad:
        activity = backend_queue.published.activity
        healthy = backend_queue.published.state == "ready"
        if activity is None:
            return EngineLoad(name=name, healthy=healthy, waiting=len(backend_queue.queue))
        made = activity.generation_tokens_total
        before, rate = self._made.get(name, (made, 0.0))
        rate += _RATE_MEMORY * (max(made - before, 0) / passed_s - rate)
        self._made[name] = (made, rate)
        return EngineLoad(
            name=name,
            healthy=healthy,
            running=activity.running,
            waiting=activity.waiting + len(backend_queue.queue),
            outstanding_tokens=activity.outstanding_tokens,
            kv_usage=activity.kv_usage,
            tokens_per_s=rate,
            expected_wait_s=backend_queue.queue.expected_wait_s(now),
        )
