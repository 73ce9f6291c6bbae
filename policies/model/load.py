"""The live load that routes and plans look at, as a snapshot, with the published state of circuit breakers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

BreakerState = Literal["closed", "open", "half_open"]


class Permit(msgspec.Struct, frozen=True, gc=False):
    """Permission for one attempt on the rung. `probe` is 0 in the closed state; probe numbers are never reused."""

    epoch: int
    probe: int = 0


class BreakerView(msgspec.Struct, frozen=True, gc=False):
    """A snapshot of a breaker. While it shows "closed", an attempt may start without a message to its owner."""

    state: BreakerState
    epoch: int
    opens_for_s: float = 0.0
    """While open: seconds until the first probe is allowed, counted from the snapshot."""


class EngineLoad(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Load of one engine and its backend queue."""

    name: str
    healthy: bool = True
    """The model is loaded and engine steps make progress."""
    running: int = 0
    waiting: int = 0
    """Requests in the engine's own waiting queue and in its backend queue."""
    outstanding_tokens: int = 0
    kv_usage: float = 0.0
    """Share of the KV blocks in use, 0..1."""
    tokens_per_s: float = 0.0
    expected_wait_s: float = 0.0
    """How long a request that arrives now is expected to wait before its prefill."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Load of all backends at one moment. An engine without an entry is unknown: conditions on its load do not hold."""

    engines: Mapping[str, EngineLoad] = MappingProxyType({})
    breakers: Mapping[str, BreakerView] = MappingProxyType({})
    """By rung: the name of an engine or upstream."""
    busy: frozenset[tuple[str, str]] = frozenset()
    """(cascade, tier) pairs whose `when_busy` holds now, with hysteresis: see `policies.routing.busy.BusyBook`."""
    thresholds: Mapping[str, float] = MappingProxyType({})
    """By cascade, where a controller of `policies.rollout` has moved the threshold; others use the policy's own."""
    rolled_back: frozenset[str] = frozenset()
    """Experiments that were rolled back: all of their traffic is in the arm `control`."""

    def can_serve(self, engine: str) -> bool:
        """False if the engine is known to be down or its breaker is open. True for an unknown engine."""
        load, view = self.engines.get(engine), self.breakers.get(engine)
        return (load is None or load.healthy) and (view is None or view.state != "open")
