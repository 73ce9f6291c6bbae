"""What all requests of a simulation share: backends, breakers, retry budget, draws and alarms."""

import heapq
from collections.abc import Callable, Mapping
from functools import partial
from random import Random

import msgspec

from config.model.settings import EngineSettings, Settings
from config.tenants import cache_domain, known_tenants, tenant_queues
from gateway.profiling.profile import BadProfile, EngineProfile, Profile
from gateway.simulation.draws import SimulatedDraws
from gateway.simulation.simulated_engine import SimulatedEngine
from gateway.simulation.simulated_queue import SimulatedQueue
from gateway.simulation.simulated_time_slices import SimulatedTimeSlices, at_once, shares_cores
from gateway.simulation.simulated_upstream import as_engine
from policies.fallback.breaker import Breaker
from policies.fallback.retry_budget import RetryBudget
from policies.records.trace import TraceRequest
from policies.routing.policy import Policy

_NEVER = float("inf")


class SimulatedService:
    """The service under one policy."""

    def __init__(
        self,
        settings: Settings,
        profile: Profile,
        trace: tuple[TraceRequest, ...],
        *,
        seed: int,
        shares: Mapping[str, float],
        fast_forward: bool,
    ) -> None:
        """See `World` for the arguments and errors."""
        self.settings = settings
        hosts = {name: self._measured(name, profile) for name in settings.engines if name not in profile.encoders}
        self.upstreams = {name: profile.upstreams[name] for name in settings.upstreams if name in profile.upstreams}
        """Upstreams whose times are known; the others refuse every request."""
        hosts |= {name: as_engine(settings.upstreams[name], times) for name, times in self.upstreams.items()}
        if not hosts and settings.upstreams:
            raise BadProfile(
                f"the policy has only upstreams, and their speed is unknown: give --upstream "
                f"{next(iter(settings.upstreams))}=TTFT,ITL, such as 600ms,25ms, or 'upstreams' in the profile"
            )
        tokenizers = {name: each.tokenizer for name, each in profile.engines.items() if name in settings.engines}
        for name, upstream in settings.upstreams.items():
            tokenizers[name] = tokenizers.get(upstream.tokenizer or "", "")
        self.policy = Policy.compile(settings, tokenizers)
        self.draws = SimulatedDraws(seed, self.policy, shares)
        self.active = 0
        """Requests in progress."""
        self.retries = RetryBudget(settings.retry_budget, active=lambda: self.active)
        self.breakers = {rung: Breaker(each) for rung, each in self.policy.breakers.items()}
        self.tenants = known_tenants(settings)
        domains: dict[str, int] = {}
        self.salts = {
            name: domains.setdefault(cache_domain(name, tenant), len(domains)) for name, tenant in self.tenants.items()
        }
        self.backend_queues: dict[str, SimulatedQueue] = {}
        self.alarms: list[tuple[float, int, Callable[[float], None]]] = []
        """A heap of (time, number, callback)."""
        self._numbers = 0
        limit = at_once(settings, profile.cores)
        self._time_slices = None if limit is None else SimulatedTimeSlices(limit)
        for name, (engine, measured) in hosts.items():
            self.backend_queues[name] = self._backend_queue(name, engine, measured, seed, fast_forward)
        self.engines = [engine for backend_queue in self.backend_queues.values() for engine in backend_queue.engines]
        if self._time_slices is not None:
            self._time_slices.join([engine for engine in self.engines if shares_cores(hosts[engine.name][0])])
        self._expiries = dict.fromkeys(self.backend_queues, _NEVER)

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def wake(self, due: float, callback: Callable[[float], None]) -> None:
        heapq.heappush(self.alarms, (due, self.next_number(), callback))

    def watch_expiries(self) -> None:
        for name, backend_queue in self.backend_queues.items():
            if len(backend_queue.queue) and (due := backend_queue.queue.next_expiry() or _NEVER) < self._expiries[name]:
                self._expiries[name] = due
                self.wake(due, partial(self._expire, name))

    def _expire(self, name: str, now: float) -> None:
        self._expiries[name] = _NEVER
        self.backend_queues[name].advance(now)

    def _others_compute(self, title: str) -> bool:
        return any(other.busy for other in self.engines if other.title != title)

    def _on_busy_changed(self, title: str, now: float) -> None:
        """Cut the runs of the other engines: the duration of their steps depends on whether this engine computes."""
        for other in self.engines:
            if other.title != title and other.is_slowed_by_others:
                other.cut(now)

    def _measured(self, name: str, profile: Profile) -> tuple[EngineSettings, EngineProfile]:
        measured = profile.engines.get(name)
        if measured is None:
            raise BadProfile(
                f"the profile has no engine '{name}' (it has {', '.join(profile.engines)}): make it with "
                "`penstock engine profile --config` and this policy"
            )
        return self.settings.engines[name], measured

    def _backend_queue(
        self, name: str, engine: EngineSettings, measured: EngineProfile, seed: int, fast_forward: bool
    ) -> SimulatedQueue:
        backend_queue = SimulatedQueue(name, self.settings.tiers, tenant_queues(self.tenants), engine)
        for replica in range(engine.replicas):
            title = name if engine.replicas == 1 else f"{name}/{replica}"
            places = list(range(len(measured.spread)))
            Random(f"{seed} {title}").shuffle(places)  # noqa: S311  (the same order every time is the point)
            # Replicas with equal times could end steps at the same instant, and their order would affect the result.
            own = tuple([factor * (1 + replica * 1e-6) for factor in measured.spread])
            backend_queue.engines.append(
                SimulatedEngine(
                    name,
                    engine,
                    msgspec.structs.replace(measured, spread=own),
                    tuple(places),
                    title=title,
                    fast_forward=fast_forward,
                    is_settled=backend_queue.is_settled,
                    others_busy=partial(self._others_compute, title),
                    on_busy_changed=partial(self._on_busy_changed, title),
                    time_slices=self._time_slices if shares_cores(engine) else None,
                )
            )
        return backend_queue
