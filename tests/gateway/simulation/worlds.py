"""Small policies, profiles and traces for the simulation's tests."""

from pathlib import Path
from random import Random

import msgspec

from config.load import parse_settings
from config.model.calibration import Statistic
from config.model.settings import Settings
from gateway.profiling.profile import EngineProfile, Profile, ServiceCost, ServiceTimes, StepCost
from policies.records.trace import TraceRequest

POLICY = """\
schema = 1
[engines.small]
model = "s"
max_running = {running}
max_step_tokens = 64
prefill_chunk = 32
kv = {{ memory = "{memory}KiB" }}
[engines.large]
model = "l"
max_running = {running}
max_step_tokens = 64
prefill_chunk = 32
kv = {{ memory = "{memory}KiB" }}
[models.chat]
[prices]
small = {{ input = 1.0, output = 2.0 }}
large = {{ input = 10.0, output = 20.0 }}
[tiers.fast]
priority = 1
slo = {{ ttft = "200ms", itl = "20ms" }}
queue = {{ wait = "2s", requests = 8, tokens = 4000 }}
[tiers.slow]
queue = {{ wait = "20s", requests = 30, tokens = 90000 }}
[tenants.anonymous]
tier = "fast"
[tenants.acme]
tier = "fast"
weight = 3
[tenants.batch]
tier = "slow"
tokens = {{ per_minute = {quota} }}
[[routes]]
name = "chat"
use = {{ cascade = "thrifty" }}
midstream = "continue"
deadlines = {{ ttft = "5s", stall = "3s", total = "20s" }}
[cascades.thrifty]
stages = ["small", "large"]
defer = {{ threshold = 0.5 }}
emit = {{ mode = "{mode}", window = 3 }}
on_failure = "safe"
[[ladders.safe]]
to = "large"
retries = 1
[[ladders.safe]]
to = "small"
[[ladders.safe]]
answer = "busy"
"""


def policy(
    *,
    running: int = 4,
    memory: int = 1000,
    mode: str = "window",
    quota: int = 2000,
    answer: bool = True,
    statistic: Statistic = "min_margin",
    threshold: float = 0.5,
) -> Settings:
    """Two engines with 64 bytes of KV a token."""
    text = POLICY.format(
        running=running, memory=memory, mode=mode, quota=quota, statistic=statistic, threshold=threshold
    )
    if not answer:
        text = text[: text.rindex("[[ladders.safe]]")]
    settings = parse_settings(text, Path("/etc/policy.toml"))
    cascade = settings.cascades["thrifty"]
    defer = msgspec.structs.replace(cascade.defer, statistic=statistic, threshold=threshold)
    return msgspec.structs.replace(settings, cascades={"thrifty": msgspec.structs.replace(cascade, defer=defer)})


def profile(*, slow: float = 1.0, jitter: bool = True, beside: float = 1.0, cores: int = 0) -> Profile:
    """`slow`: times as long a step."""

    def engine(size: float) -> EngineProfile:
        cost = StepCost(
            fixed=0.004 * size * slow,
            per_sequence=0.0001 * size * slow,
            per_context_token=1e-6 * slow,
            per_attention=1e-7 * slow,
            knots=(0, 8),
            slopes=(0.0002 * size * slow, 0.0001 * size * slow),
        )
        spread = (0.9, 0.97, 1.0, 1.04, 1.3) if jitter else (1.0,)
        return EngineProfile(
            cost=cost,
            max_model_len=400,
            kv_token_bytes=64,
            tokenizer="t",
            spread=spread,
            served=ServiceTimes(per_sample=1e-5, pauses=(0.0, 1e-4, 3e-4) if jitter else (0.0,)),
            beside=ServiceTimes(factor=beside, pauses=(0.0, 2e-4)) if beside != 1 else None,
        )

    engines = {"small": engine(1.0), "large": engine(3.0)}
    return Profile(
        penstock_profile=1, machine="none", engines=engines, service=ServiceCost(arrival_s=0.002), cores=cores
    )


def trace(seed: int, requests: int, *, per_s: float = 20.0) -> tuple[TraceRequest, ...]:
    """Random traffic with some common beginnings, and margins of the small model."""
    rng = Random(seed)
    at, found = 0.0, []
    for _ in range(requests):
        output = rng.choice([1, 2, rng.randrange(1, 60), rng.randrange(1, 200)])
        prompt = rng.choice([rng.randrange(1, 30), rng.randrange(1, 250)])
        low = rng.randrange(1, output + 1)
        margins = (*[2.0] * (low - 1), 0.1) if rng.random() < 0.3 else (3.0,)
        found.append(
            TraceRequest(
                at=at,
                wall_at=1_700_000_000 + at,
                prompt_tokens=prompt,
                output_tokens=output,
                tenant=rng.choice(["anonymous", "acme", "batch"]),
                max_tokens=rng.choice([0, 0, output, 100]),
                choices=rng.choice([1, 1, 1, 3]),
                has=rng.choice([(), ("stream",), ("choices",)]),
                prefix=tuple(rng.choice([(), (1,), (1, 2), (1, 2, 3), (1, 4)])),
                prefix_block=16,
                margins=margins,
            )
        )
        at += rng.expovariate(per_s)
    return tuple(found)
