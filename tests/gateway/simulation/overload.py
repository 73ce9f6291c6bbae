"""An engine that is offered more than it can serve, on the virtual clock: open loop, two tiers, a loud tenant."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random

import msgspec

from config.load import parse_settings
from config.model.settings import Settings
from gateway.profiling.profile import EngineProfile, Profile, ServiceCost, StepCost
from gateway.simulation.simulated_request import SimulatedRequest
from gateway.simulation.world import World
from policies.records.trace import TraceRequest

SECONDS = 60.0
"""Of arrivals."""
WARM_UP_S = 10.0
"""Not counted: at first nothing is measured."""
SHARES = {"gold": 0.1, "loud": 10 / 11 * 0.9, "quiet": 1 / 11 * 0.9}
"""Of the offered load; loud and quiet are equal tenants of the tier standard."""
TTFT_S = 0.5

_POLICY = """\
schema = 1
[engines.main]
model = "m"
max_running = 16
max_step_tokens = 512
prefill_chunk = 256
kv = {{ memory = "64MiB" }}
[models.chat]
[tiers.premium]
priority = 10
admit_by = "{admit_by}"
slo = {{ ttft = "500ms", itl = "100ms" }}
[tiers.standard]
admit_by = "{admit_by}"
slo = {{ ttft = "500ms", itl = "100ms" }}
[tenants.gold]
tier = "premium"
[tenants.loud]
tier = "standard"
[tenants.quiet]
tier = "standard"
[tenants.anonymous]
tier = "standard"
[[routes]]
name = "chat"
use = {{ ladder = "only" }}
[[ladders.only]]
to = "main"
{more}
"""


def policy(admit_by: str, more: str = "") -> Settings:
    return parse_settings(_POLICY.format(admit_by=admit_by, more=more), Path("/etc/overload.toml"))


def profile(engines: tuple[str, ...] = ("main",)) -> Profile:
    cost = StepCost(
        fixed=0.008,
        per_sequence=0.0002,
        per_context_token=1e-6,
        per_attention=1e-8,
        knots=(0, 64),
        slopes=(0.0001, 0.00008),
    )
    engine = EngineProfile(cost=cost, max_model_len=2048, kv_token_bytes=1024, spread=(0.9, 1.0, 1.1, 1.2))
    return Profile(
        penstock_profile=1, machine="none", engines=dict.fromkeys(engines, engine), service=ServiceCost(arrival_s=0.001)
    )


def arrivals(
    per_s: float,
    *,
    shares: Mapping[str, float] = SHARES,
    since: float = 0.0,
    until: float = SECONDS,
    seed: int = 1,
) -> tuple[TraceRequest, ...]:
    """Each tenant's arrivals are Poisson."""
    rng = Random(seed)
    found = []
    for tenant, share in shares.items():
        at = since + rng.expovariate(per_s * share)
        while at < until:
            found.append(request(rng, at, tenant))
            at += rng.expovariate(per_s * share)
    return in_order(found)


def in_order(requests: Iterable[TraceRequest]) -> tuple[TraceRequest, ...]:
    return tuple(sorted(requests, key=lambda each: each.at))


def request(rng: Random, at: float, tenant: str) -> TraceRequest:
    return TraceRequest(
        at=at,
        wall_at=1_700_000_000 + at,
        prompt_tokens=rng.randrange(20, 400),
        output_tokens=rng.randrange(10, 120),
        max_tokens=256,
        tenant=tenant,
        has=("stream",),
    )


class Result(msgspec.Struct, frozen=True):
    """Of the requests that came after the warm-up."""

    goodput_per_s: float
    """Answers whose first token came within the SLO."""
    by_tenant: Mapping[str, float]
    """The same by tenant, per second."""
    offered_per_s: Mapping[str, float]
    ttft_s: Mapping[str, list[float]]
    """By tier, sorted."""
    refused_after_s: list[float]
    """Sorted."""


def run(settings: Settings, trace: tuple[TraceRequest, ...], engines: tuple[str, ...] = ("main",)) -> World:
    world = World(settings, profile(engines), trace, seed=1, shares={})
    world.run(lambda *_: None)
    return world


def result(world: World, *, seconds: float = SECONDS) -> Result:
    answers = [each for each in world.answers if each.arrived_at >= WARM_UP_S]
    counted_s = seconds - WARM_UP_S
    tenants = {each.features.tenant for each in answers}
    good = {name: sum(_is_good(each) for each in answers if each.features.tenant == name) for name in tenants}
    ttft: dict[str, list[float]] = {}
    for each in answers:
        if each.first_at is not None:
            ttft.setdefault(each.features.tier, []).append(each.first_at - each.arrived_at)
    refused = [each for each in answers if each.outcome == "refused"]
    return Result(
        sum(good.values()) / counted_s,
        {name: count / counted_s for name, count in good.items()},
        {name: sum(each.features.tenant == name for each in answers) / counted_s for name in tenants},
        {name: sorted(times) for name, times in ttft.items()},
        sorted([each.ended_at - each.arrived_at for each in refused]),
    )


def _is_good(answer: SimulatedRequest) -> bool:
    return answer.outcome == "ok" and answer.first_at is not None and answer.first_at - answer.arrived_at <= TTFT_S


def at(values: list[float], share: float) -> float:
    return values[min(int(share * len(values)), len(values) - 1)]
