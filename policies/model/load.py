"""Live load, as a published snapshot: what routes and plans may look at."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from policies.model.breaker_view import BreakerView


class EngineLoad(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One engine and the queue in front of it."""

    name: str
    healthy: bool = True
    """Loaded, and its steps make progress."""
    running: int = 0
    waiting: int = 0
    """Requests in the engine's own waiting line and in the queue in front of it."""
    outstanding_tokens: int = 0
    kv_usage: float = 0.0
    """Share of the KV blocks in use, 0..1."""
    tokens_per_s: float = 0.0
    expected_wait_s: float = 0.0
    """How long a request that arrives now is expected to wait before its prefill."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at one instant. An engine without an entry is unknown: conditions on its load do not hold."""

    engines: Mapping[str, EngineLoad] = MappingProxyType({})
    breakers: Mapping[str, BreakerView] = MappingProxyType({})
    """By rung, which is the engine's or the upstream's name."""
    busy: frozenset[tuple[str, str]] = frozenset()
    """(cascade, tier) whose `when_busy` holds now: see `policies.routing.busy.BusyBook`, which keeps the hysteresis."""
    thresholds: Mapping[str, float] = MappingProxyType({})
    """By cascade: the threshold as `policies.rollout.budget_controller` has set it; others keep the policy's own."""
    rolled_back: frozenset[str] = frozenset()
    """Experiments whose guard has ended them: all of their traffic is `control`."""

    def can_serve(self, engine: str) -> bool:
        """False if the engine is known to be down or its breaker is open; unknown engines are given the chance."""
        load = self.engines.get(engine)
        if load is not None and not load.healthy:
            return False
        view = self.breakers.get(engine)
        return view is None or view.state != "open"
