"""An upstream as a simulation sees it: so long to the first token, so long between two, so many requests at once.

It is simulated as an engine whose steps all take the time between two tokens, for any number of calls, and whose
prompts take as many steps as fit into the time to the first token. The load of other customers is in those two times.
"""

from pathlib import Path

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from config.model.upstreams import UpstreamSettings
from gateway.profiling.profile import EngineProfile, StepCost, UpstreamProfile

_CONTEXT = 32_768
"""Tokens of prompt and output, where the policy does not say it."""
_BLOCK = 256
REMOTE = "upstream"


def prompt_steps(profile: UpstreamProfile) -> int:
    """Steps until the first token."""
    return max(round(profile.ttft_s / profile.itl_s), 1)


def as_engine(settings: UpstreamSettings, profile: UpstreamProfile) -> tuple[EngineSettings, EngineProfile]:
    """What the world runs in its place."""
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
