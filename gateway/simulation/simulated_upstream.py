"""Simulates an upstream with a constant TTFT, a constant ITL and a limit on concurrent requests.

It is an engine whose steps all take the ITL, for any number of requests, and whose prompts take as many steps as fit
into the TTFT. Load from other customers of the upstream is part of these two times.
"""

from pathlib import Path

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from config.model.upstreams import UpstreamSettings
from gateway.profiling.profile import EngineProfile, StepCost, UpstreamProfile

_CONTEXT = 32_768
"""Most tokens of prompt and output, if the policy does not state them."""
_BLOCK = 256
REMOTE = "upstream"


def prompt_steps(profile: UpstreamProfile) -> int:
    """Steps until the first token."""
    return max(round(profile.ttft_s / profile.itl_s), 1)


def as_engine(settings: UpstreamSettings, profile: UpstreamProfile) -> tuple[EngineSettings, EngineProfile]:
    """The settings and the profile of the engine that stands for the upstream."""
    context = settings.context or _CONTEXT
    memory = (context + _BLOCK) * (settings.concurrent + 1)
    engine = EngineSettings(
        model=Path(),
        device=REMOTE,
        max_running=settings.concurrent,
        max_step_tokens=settings.concurrent,
        prefill_chunk=1,
        prefix_cache=False,
        kv=KVSettings(memory=Bytes(memory), block_size=_BLOCK),
    )
    cost = StepCost(fixed=profile.itl_s, slopes=(0.0,))
    return engine, EngineProfile(cost=cost, max_model_len=context, kv_token_bytes=1)
