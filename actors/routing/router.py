"""From a request's features to its plan: the compiled policy and the live load, published, asked without waiting."""

import difflib
import time
from collections.abc import Mapping

import msgspec

from actors.api.errors import InvalidRequest, UnknownModel
from actors.breakers.breakers import BreakerRegistry
from actors.queue.backend import Backend
from actors.routing.policy_snapshot import PolicySnapshot
from policies.errors import NoRoute
from policies.model.features import Features
from policies.model.load import EngineLoad, Load
from policies.model.plan import Plan
from policies.rollout.rollout_state import RolloutState
from policies.routing.busy import BusyBook
from policies.routing.policy import Policy, make_plan

_FRESH_S = 0.02
"""A published load is looked at for this long."""
_RATE_MEMORY = 0.2


class Router:
    """Synchronous: what it reads is published by others, what it writes is its own."""

    def __init__(
        self,
        snapshot: PolicySnapshot,
        backend_queues: Mapping[str, Backend],
        breakers: BreakerRegistry,
        rollout: RolloutState,
    ) -> None:
        self.snapshot = snapshot
        self._backend_queues = backend_queues
        self._breakers = breakers
        self._rollout = rollout
        self._busy = BusyBook(snapshot.settings)
        self._load = Load()
        self._published_at = float("-inf")
        self._made: dict[str, tuple[int, float]] = {}

    def apply_settings(self, snapshot: PolicySnapshot) -> None:
        """Other rules from now on; a cascade that is busy stays so until its load is low enough for the new ones."""
        self.snapshot = snapshot
        self._busy.apply_settings(snapshot.settings)

    def find_model(self, asked: str) -> tuple[str, str]:
        """The model and the adapter that a client asks for: NAME or NAME:ADAPTER. Raises UnknownModel."""
        models = self.snapshot.settings.models
        if asked in models:
            return asked, ""
        model, _, adapter = asked.rpartition(":")
        if adapter in self.adapters_of(model):
            return model, adapter
        known = [*models, *(f"{model}:{adapter}" for model in models for adapter in self.adapters_of(model))]
        nearest = difflib.get_close_matches(asked[:200], known, n=1)
        raise UnknownModel(asked[:200], nearest[0] if nearest else None)

    def adapters_of(self, model: str) -> tuple[str, ...]:
        """Those that clients may ask for with this model: loaded on some rung that may answer to it."""
        settings = self.snapshot.settings.models.get(model)
        if settings is None or not settings.adapters:
            return ()
        rungs = self.snapshot.policy.rungs_of(model)
        return tuple(sorted({name for rung in rungs for name in self._backend_queues[rung].published.adapters}))

    def plan(self, policy: Policy, features: Features, load: Load, arrived_at: float) -> Plan:
        """What will be tried under this load, by the policy that the request began with. Raises InvalidRequest."""
        try:
            return make_plan(policy, features, load, arrived_at)
        except NoRoute as error:
            raise InvalidRequest(str(error), code="no_route") from None

    def load(self, now: float) -> Load:
        """The load as it was at most `_FRESH_S` ago."""
        if now - self._published_at >= _FRESH_S:
            self._publish(now)
        elif self._rollout.steers:
            # Each decision has its own: a burst's thousand may come before the next look at the engines.
            self._load = msgspec.structs.replace(self._load, thresholds=self._rollout.thresholds(time.time()))
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
            thresholds=self._rollout.thresholds(time.time()),
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
