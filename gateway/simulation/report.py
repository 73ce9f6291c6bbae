"""The results of a simulation as plain values: equal inputs give equal bytes."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.simulation.simulated_request import SimulatedRequest
from gateway.simulation.world import Sample, World

NO_ROUTE = "(none: refused before)"
_DIGITS = 9
"""Results are rounded to this many significant digits, so that the order of a sum does not change them."""


class Quantiles(msgspec.Struct, frozen=True):
    """Quantiles in seconds; None without values."""

    count: int
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None


class Shed(msgspec.Struct, frozen=True):
    """Requests of one tier that got no complete answer, for one reason."""

    tier: str
    reason: str
    requests: int


class TierReport(msgspec.Struct, frozen=True):
    """The results of one tier."""

    requests: int
    answered: int
    goodput: float
    """Share of its requests with a complete answer within the tier's TTFT and ITL (the mean over the answer)."""
    ttft_s: Quantiles
    slo_ttft_s: float
    slo_itl_s: float


class TenantReport(msgspec.Struct, frozen=True):
    """The results of one tenant."""

    requests: int
    answered: int
    tokens: int
    """Prompt and output tokens of answered requests."""
    weight: float
    cost: float


class RouteReport(msgspec.Struct, frozen=True):
    """The results of one route."""

    requests: int
    answered: int
    goodput: float
    escalated: float
    cost: float


class EngineReport(msgspec.Struct, frozen=True):
    """The results of one engine."""

    steps: int
    busy: float
    """Share of the time that it spent in steps."""
    prompt_tokens: int
    output_tokens: int
    prefix_hits: float
    """Share of prompt tokens found in its prefix cache."""
    preemptions: int
    most_kv_usage: float
    most_queued: int


class SimulationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of one policy with one trace."""

    policy: str
    digest: str
    requests: int
    seconds: float
    """Virtual time until the last answer ended."""
    answered: int
    refused: int
    broken: int
    goodput: float
    rungs: Mapping[str, float]
    """Share of the answers by rung."""
    marked: Mapping[str, float]
    """Share of the answers by the mark of their rung, such as "degraded"."""
    escalated: float
    cost: float
    cost_by_rung: Mapping[str, float]
    cost_per_1000: float
    ttft_s: Quantiles
    itl_s: Quantiles
    """Times between two tokens that clients receive as they are generated."""
    queue_wait_s: Quantiles
    fairness: float
    """Jain's index over the tenants' answered tokens divided by weight: 1 if equal, 1 / tenants if one has all."""
    sheds: tuple[Shed, ...]
    tiers: Mapping[str, TierReport]
    tenants: Mapping[str, TenantReport]
    routes: Mapping[str, RouteReport]
    engines: Mapping[str, EngineReport]
    timeline: Mapping[str, tuple[Sample, ...]]
    ttft_curve: tuple[tuple[float, float], ...]
    """(seconds, share of the answers with a TTFT of at most that)."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The output of `penstock policy simulate --json`."""

    trace: str
    trace_requests: int
    trace_seconds: float
    profile: str
    seed: int
    speed: float
    notes: tuple[str, ...]
    """Assumptions about what the trace does not contain."""
    reports: tuple[SimulationReport, ...]


def make_report(world: World, ended: float, name: str) -> SimulationReport:
    """The results of `world`, whose `run` has returned `ended`."""
    answers, settings = world.answers, world.settings
    good = [each for each in answers if each.outcome == "ok"]
    ttft = _ttft(world, good)
    costs = [world.cost(each) for each in answers]
    stats = {name: backend_queue.stats(ended) for name, backend_queue in world.service.backend_queues.items()}
    tenants = _tenants(world, costs)
    even = [tenant.tokens / tenant.weight for tenant in tenants.values()]
    rungs, marks = (Counter([getattr(each, word) for each in good]) for word in ("rung", "mark"))
    return SimulationReport(
        policy=name,
        digest=world.service.policy.digest,
        requests=len(answers),
        seconds=_round(ended),
        answered=len(good),
        refused=sum(each.outcome == "refused" for each in answers),
        broken=sum(each.outcome == "failed" for each in answers),
        goodput=_goodput(world, answers),
        rungs={rung: _share(count, len(good)) for rung, count in sorted(rungs.items())},
        marked={mark: _share(count, len(good)) for mark, count in sorted(marks.items()) if mark},
        escalated=_share(sum(each.escalated for each in good), len(good)),
        cost=_round(sum(costs)),
        cost_by_rung=_cost_by_rung(world),
        cost_per_1000=_round(1000 * sum(costs) / len(good)) if good else 0.0,
        ttft_s=quantiles(ttft),
        itl_s=_itl(world),
        queue_wait_s=quantiles([each.queue_wait_s for each in answers if each.queue_wait_s is not None]),
        fairness=_round(sum(even) ** 2 / (len(even) * sum(x * x for x in even))) if any(even) else 1.0,
        sheds=_sheds(answers),
        tiers={
            name: _tier(world, name) for name in settings.tiers if any(each.features.tier == name for each in answers)
        },
        tenants=tenants,
        routes=_routes(world, costs),
        engines={
            name: EngineReport(
                steps=each.steps_total,
                busy=_round(world.service.backend_queues[name].busy_s / ended) if ended else 0.0,
                prompt_tokens=each.prompt_tokens_total,
                output_tokens=each.generation_tokens_total,
                prefix_hits=_share(each.prefix_hits_total, each.prefix_queries_total),
                preemptions=each.preemptions_total,
                most_kv_usage=_round(max((sample.kv_usage for sample in world.samples[name]), default=0.0)),
                most_queued=max((sample.queued for sample in world.samples[name]), default=0),
            )
            for name, each in stats.items()
        },
        timeline={
            name: tuple([Sample(_round(each.at), each.running, each.queued, _round(each.kv_usage)) for each in samples])
            for name, samples in world.samples.items()
        },
        ttft_curve=_curve(ttft),
    )


def quantiles(values: Sequence[float], weights: npt.NDArray[np.int64] | None = None) -> Quantiles:
    """Nearest-rank quantiles; a value counts as often as its weight."""
    if not len(values):
        return Quantiles(0, None, None, None, None)
    array = np.asarray(values, np.float64)
    order = np.argsort(array, kind="stable")
    ranks = np.cumsum(np.ones(len(array), np.int64) if weights is None else weights[order])
    total = int(ranks[-1])
    ordered = [
        _round(float(array[order[min(int(np.searchsorted(ranks, share * total)), len(array) - 1)]]))
        for share in (0.5, 0.9, 0.95, 0.99)
    ]
    return Quantiles(total, *ordered)


def _itl(world: World) -> Quantiles:
    gaps = np.concatenate([np.array(engine.gaps) for engine in world.service.engines])
    weights = np.concatenate([np.array(engine.weights, np.int64) for engine in world.service.engines])
    return quantiles(gaps, weights) if int(weights.sum()) > 0 else quantiles([])  # type: ignore[arg-type]


def _ttft(world: World, answers: Sequence[SimulatedRequest]) -> list[float]:
    return [each.first_at - each.arrived_at + world.delivery_s for each in answers if each.first_at is not None]


def _goodput(world: World, answers: Sequence[SimulatedRequest]) -> float:
    return _share(sum(_is_good(world, each) for each in answers), len(answers))


def _is_good(world: World, answer: SimulatedRequest) -> bool:
    if answer.outcome != "ok" or answer.first_at is None:
        return False
    slo = world.settings.tiers[answer.features.tier].slo
    if answer.first_at - answer.arrived_at + world.delivery_s > slo.ttft:
        return False
    tokens = answer.shown // answer.request.choices
    return tokens < 2 or (answer.ended_at - answer.first_at) / (tokens - 1) <= slo.itl


def _tier(world: World, name: str) -> TierReport:
    answers = [each for each in world.answers if each.features.tier == name]
    good = [each for each in answers if each.outcome == "ok"]
    slo = world.settings.tiers[name].slo
    return TierReport(
        requests=len(answers),
        answered=len(good),
        goodput=_goodput(world, answers),
        ttft_s=quantiles(_ttft(world, good)),
        slo_ttft_s=float(slo.ttft),
        slo_itl_s=float(slo.itl),
    )


def _tenants(world: World, costs: list[float]) -> dict[str, TenantReport]:
    return {
        name: TenantReport(
            requests=len(own),
            answered=sum(each.outcome == "ok" for each, _ in own),
            tokens=sum(each.request.prompt_tokens + each.shown for each, _ in own if each.outcome == "ok"),
            weight=world.service.tenants[name].weight,
            cost=_round(sum(cost for _, cost in own)),
        )
        for name, own in _grouped(world, costs, lambda each: each.features.tenant)
    }


def _routes(world: World, costs: list[float]) -> dict[str, RouteReport]:
    return {
        name: RouteReport(
            requests=len(own),
            answered=sum(each.outcome == "ok" for each, _ in own),
            goodput=_goodput(world, [each for each, _ in own]),
            escalated=_share(sum(each.escalated for each, _ in own), len(own)),
            cost=_round(sum(cost for _, cost in own)),
        )
        for name, own in _grouped(world, costs, lambda each: each.plan.route if each.plan is not None else NO_ROUTE)
    }


def _grouped(
    world: World, costs: list[float], key: Callable[[SimulatedRequest], str]
) -> list[tuple[str, list[tuple[SimulatedRequest, float]]]]:
    groups: dict[str, list[tuple[SimulatedRequest, float]]] = {}
    for each, cost in zip(world.answers, costs, strict=True):
        groups.setdefault(key(each), []).append((each, cost))
    return sorted(groups.items())


def _cost_by_rung(world: World) -> dict[str, float]:
    costs: defaultdict[str, float] = defaultdict(float)
    for answer in world.answers:
        for rung, cost in world.costs(answer):
            costs[rung] += cost
    return {rung: _round(costs[rung]) for rung in sorted(costs)}


def _sheds(answers: Sequence[SimulatedRequest]) -> tuple[Shed, ...]:
    counts = Counter([(each.features.tier, each.code) for each in answers if each.outcome != "ok"])
    return tuple([Shed(tier, reason, count) for (tier, reason), count in sorted(counts.items())])


def _curve(values: Sequence[float]) -> tuple[tuple[float, float], ...]:
    if not values:
        return ()
    ordered = sorted(values)
    shares = [step / 100 for step in range(1, 100)] + [0.995, 0.999, 1.0]
    return tuple([(_round(ordered[min(int(share * len(ordered)), len(ordered) - 1)]), share) for share in shares])


def _share(part: int, whole: int) -> float:
    return _round(part / whole) if whole else 0.0


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
