"""The published status of backends: written by their actors, read by any task."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from engine.core.limits import EngineLimits
from engine.lora.adapters import Adapter, AdapterUse, PreparedAdapter
from engine.messages import EngineStats, sum_of_stats

EngineState = Literal["loading", "ready", "failed"]


class BackendActivity(msgspec.Struct, frozen=True, gc=False):
    """Running and waiting jobs and generated tokens of a backend, engine or upstream.

    Best-effort sequences are counted in its tokens only: no decision is to depend on them.
    """

    running: int
    waiting: int
    """In the backend itself, not in its backend queue."""
    generation_tokens_total: int
    outstanding_tokens: int = 0
    kv_usage: float = 0.0
    """Share of the KV blocks in use, 0..1."""


class BackendStatus(Protocol):
    """A backend's published status: an engine's, that of its replicas together, or an upstream's."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> EngineState: ...
    @property
    def why(self) -> str | None:
        """While loading: the last step; when failed: what went wrong."""

    @property
    def down_until(self) -> float | None:
        """Set while it is marked down: restarts did not help, and the next one is not before this time."""

    @property
    def limits(self) -> EngineLimits | None:
        """Known after the first load; the same in every life."""

    @property
    def activity(self) -> BackendActivity | None:
        """As of the last step or call; None: it has not been loaded, or has failed."""

    @property
    def restarts(self) -> int: ...
    @property
    def inside(self) -> int:
        """Its sequences."""

    @property
    def batch(self) -> int:
        """Number of sequences in one step, without best-effort ones."""

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        """By name, those that new jobs can use."""


class EngineStatus:
    """Of one engine or replica; outlives restarts. Written by its actor, and by its supervisor while none runs."""

    def __init__(self, name: str, replica: int = 0, title: str | None = None) -> None:
        """`title`: for logs and messages; None: the name."""
        self.name = name
        self.replica = replica
        self.title = title if title is not None else name
        self.state: EngineState = "loading"
        self.why: str | None = None
        self.down_until: float | None = None
        """See `BackendStatus`; None as soon as it is ready again."""
        self.epoch = 0
        """Counts the engine's lives."""
        self.restarts = 0
        self.limits: EngineLimits | None = None
        self.stats: EngineStats | None = None
        """As of the last step; None: it has not been loaded."""
        self.inside = 0
        self.adapters: Mapping[str, Adapter] = {}
        self.adapter_uses: tuple[AdapterUse, ...] = ()
        """As of the last step."""
        self.read_adapter: Callable[[Path], PreparedAdapter] | None = None
        """Call it in a worker thread only; None: the engine was never loaded. Raises ModelError."""

    @property
    def activity(self) -> BackendActivity | None:
        return _activity(self.stats)

    @property
    def batch(self) -> int:
        stats = self.stats
        best_effort = 0 if stats is None else stats.best_effort_running + stats.best_effort_waiting
        return max(self.inside - best_effort, 0)


class ReplicatedEngineStatus:
    """The combined status of an engine's replicas."""

    __slots__ = ("all_published", "name")

    def __init__(self, name: str, all_published: Sequence[EngineStatus]) -> None:
        self.name = name
        self.all_published = tuple(all_published)

    @property
    def state(self) -> EngineState:
        """Ready as soon as one replica is, and failed only if all are."""
        states = {published.state for published in self.all_published}
        return next(state for state in ("ready", "loading", "failed") if state in states)

    @property
    def why(self) -> str | None:
        """Of all replicas that are not ready."""
        reasons = [
            f"{published.title} {published.state}: {published.why}"
            for published in self.all_published
            if published.state != "ready"
        ]
        return "; ".join(reasons) or None

    @property
    def down_until(self) -> float | None:
        """Down only if all are."""
        times = [published.down_until for published in self.all_published]
        return None if None in times else min([each for each in times if each is not None])

    @property
    def limits(self) -> EngineLimits | None:
        """The lowest limits of the loaded replicas."""
        known = [published.limits for published in self.all_published if published.limits is not None]
        return min(known, key=lambda limits: limits.max_model_len) if known else None

    @property
    def stats(self) -> EngineStats | None:
        """The sums over those that are loaded."""
        known = [published.stats for published in self.all_published if published.stats is not None]
        return sum_of_stats(known) if known else None

    @property
    def activity(self) -> BackendActivity | None:
        return _activity(self.stats)

    @property
    def restarts(self) -> int:
        return sum([published.restarts for published in self.all_published])

    @property
    def inside(self) -> int:
        return sum([published.inside for published in self.all_published])

    @property
    def batch(self) -> int:
        """Of the replica with the fewest, which gets the next job."""
        return min([published.batch for published in self.all_published if published.state == "ready"], default=0)

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        """Those that all ready replicas have, as any of them may get the job."""
        ready = [published.adapters for published in self.all_published if published.state == "ready"]
        return {name: each for name, each in ready[0].items() if all(name in other for other in ready)} if ready else {}


def _activity(stats: EngineStats | None) -> BackendActivity | None:
    if stats is None:
        return None
    return BackendActivity(
        running=stats.running - stats.best_effort_running,
        waiting=stats.waiting - stats.best_effort_waiting,
        generation_tokens_total=stats.generation_tokens_total,
        outstanding_tokens=stats.outstanding_tokens - stats.best_effort_tokens,
        kv_usage=stats.kv_usage_of_others,
    )


def replica_titles(name: str, replicas: int) -> list[str]:
    """The titles of an engine's replicas."""
    return [name] if replicas == 1 else [f"{name}/{number}" for number in range(replicas)]
