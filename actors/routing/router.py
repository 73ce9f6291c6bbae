"""What plans are made by: the policy as it is now and the live load, both read without waiting."""

from collections.abc import Mapping

import msgspec

from actors.api.errors import UnknownModel
from actors.breakers.breakers import BreakerRegistry
from actors.kernel.clock import WallClock
from actors.queue.backend import Backend
from actors.routing.policy_snapshot import PolicySnapshot
from policies.errors import NoSuchModel
from policies.model.load import EngineLoad, Load
from policies.rollout.rollout_state import RolloutState
from policies.routing.busy import BusyBook
from policies.routing.model_name import find_model

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
        """Other rules from now on; a cascade that is busy stays so until its load is low enough for the new ones."""
        self.snapshot = snapshot
        self._busy.apply_settings(snapshot.settings)

    def find_model(self, asked: str) -> tuple[str, str]:
        """The model and the adapter that a client asks for: NAME or NAME:ADAPTER. Raises UnknownModel."""
        try:
            return find_model(asked, self.snapshot.settings.models, self.adapters_of)
        except NoSuchModel as error:
            raise UnknownModel(str(error)) from None

    def adapters_of(self, model: str) -> tuple[str, ...]:
        """Those that clients may ask for with this model: loaded on some rung that may answer to it."""
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
