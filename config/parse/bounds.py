"""The allowed ranges of numbers, by table and field. A field that is not listed is not restricted."""

from collections.abc import Mapping

import msgspec

from config.model.admin import AdminSettings
from config.model.expectations import GivenLoad, GivenRequest
from config.model.rollout import ExperimentSettings, Guard, ShadowSettings
from config.model.routing import (
    BreakerSettings,
    Caps,
    CascadeSettings,
    Deadlines,
    Defer,
    Emit,
    RetryBudgetSettings,
    RungSettings,
    Target,
    WhenBusy,
)
from config.model.settings import CoreSettings, EngineSettings, KVSettings, ServerSettings, Speculate
from config.model.table import Range
from config.model.tenancy import SLO, Budget, Price, QueueLimits, TenantSettings, TierSettings, TokenQuota
from config.model.upstreams import UpstreamSettings


class Bound(msgspec.Struct, frozen=True):
    """low <= value <= high; with `above` low < value. None: no bound."""

    low: float | None = None
    high: float | None = None
    above: bool = False
    multiple_of: int | None = None

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            text = f"{'more than ' if self.above else ''}{self.low:g} to {self.high:g}"
        elif self.low is not None:
            text = f"more than {self.low:g}" if self.above else f"at least {self.low:g}"
        else:
            text = f"at most {self.high:g}"
        return text if self.multiple_of is None else f"{text}, a multiple of {self.multiple_of}"

    def allows(self, value: float) -> bool:
        """Whether the value is in range. False for NaN and infinity."""
        if not float("-inf") < value < float("inf"):
            return False
        if self.low is not None and (value <= self.low if self.above else value < self.low):
            return False
        if self.high is not None and value > self.high:
            return False
        return self.multiple_of is None or value % self.multiple_of == 0


_POSITIVE = Bound(low=0, above=True)
_COUNT = Bound(low=1)
_NATURAL = Bound(low=0)
_SHARE = Bound(low=0, high=1)
_ANY = Bound(low=-1e300, high=1e300)

BOUNDS: Mapping[type, Mapping[str, Bound]] = {
    ServerSettings: {
        "port": Bound(low=0, high=65_535),
        "max_body": _COUNT,
        "body_memory": _COUNT,
        "body_memory_per_key": _COUNT,
        "body_memory_per_peer": _COUNT,
        "max_head": Bound(low=1024),
        "max_headers": _COUNT,
        "max_connections": _COUNT,
        "connections_per_key": _COUNT,
        "connections_per_peer": _COUNT,
        "probe_connections": _NATURAL,
        "tier_connections": _NATURAL,
        "streams_per_socket": _COUNT,
        "messages_per_second": Bound(low=10),
        "max_choices": _COUNT,
        "max_inputs": _COUNT,
        "header_timeout": _POSITIVE,
        "body_timeout": _POSITIVE,
        "body_rate": _COUNT,
        "keep_alive": _POSITIVE,
        "heartbeat": _POSITIVE,
        "write_stall": _POSITIVE,
        "drain": _NATURAL,
    },
    AdminSettings: {"port": Bound(low=0, high=65_535), "decisions": _NATURAL, "decisions_memory": _NATURAL},
    KVSettings: {"memory": _COUNT, "block_size": Bound(low=1, high=256), "swap": _NATURAL},
    CoreSettings: {"at_once": _COUNT},
    Speculate: {"ngram": Bound(low=1, high=16), "tokens": Bound(low=1, high=64)},
    EngineSettings: {
        "threads": Bound(low=1, high=1024),
        "quantization_group": Bound(low=2, multiple_of=2),
        "replicas": Bound(low=1, high=64),
        "tensor_parallel": Bound(low=1, high=64),
        "max_running": _COUNT,
        "max_step_tokens": _COUNT,
        "prefill_chunk": _COUNT,
        "max_model_len": Bound(low=2),
        "max_adapters": _NATURAL,
        "max_adapter_rank": _COUNT,
        "stall": _POSITIVE,
    },
    SLO: {"ttft": _POSITIVE, "itl": _POSITIVE},
    QueueLimits: {"wait": _POSITIVE, "requests": _COUNT, "tokens": _COUNT, "bytes": _COUNT},
    TierSettings: {"admit_below": Bound(low=0, high=1, above=True)},
    TokenQuota: {"per_minute": _COUNT, "per_day": _COUNT},
    TenantSettings: {
        "weight": Bound(low=0.001, high=1000),
        "requests_per_minute": _COUNT,
        "concurrent": _COUNT,
    },
    Range: {"at_least": _ANY, "below": _ANY},
    Deadlines: {"queue": _POSITIVE, "ttft": _POSITIVE, "stall": _POSITIVE, "total": _POSITIVE},
    Caps: {"output_tokens": _COUNT},
    Target: {
        "large_share": _SHARE,
        "budget_per_day": _POSITIVE,
        "burst": _SHARE,
        "accuracy_of_large": Bound(low=0, high=1, above=True),
    },
    Defer: {"threshold": Bound(low=-1000), "stale_after": _POSITIVE},
    Emit: {"window": _COUNT, "draft_tokens": Bound(low=1, high=1024), "off_above_batch": _NATURAL},
    WhenBusy: {"release_at": _ANY, "dwell": _NATURAL},
    CascadeSettings: {},
    BreakerSettings: {
        "failure_rate": Bound(low=0, high=1, above=True),
        "over": _POSITIVE,
        "at_least": _COUNT,
        "open": _POSITIVE,
        "probes": _COUNT,
    },
    RungSettings: {"ttft": _POSITIVE, "retries": Bound(low=0, high=10), "wait_out": _NATURAL},
    Budget: {"amount": _POSITIVE},
    Price: {"input": _NATURAL, "output": _NATURAL, "cached_input": _NATURAL},
    UpstreamSettings: {"concurrent": _COUNT, "connect": _POSITIVE, "context": _COUNT},
    ExperimentSettings: {"sample_ratio_alpha": Bound(low=1e-9, high=0.1)},
    Guard: {"alpha": Bound(low=1e-9, high=0.5), "min_requests": _COUNT},
    ShadowSettings: {"share": Bound(low=0, high=1, above=True), "concurrent": Bound(low=1, high=1000)},
    GivenRequest: {
        "prompt_tokens": _NATURAL,
        "max_tokens": _NATURAL,
        "turn": _COUNT,
        "complexity": _SHARE,
        "code": _SHARE,
        "budget_used": _NATURAL,
    },
    GivenLoad: {"queue_wait": _NATURAL, "kv_usage": _SHARE, "running": _NATURAL},
    RetryBudgetSettings: {"ratio": Bound(low=0, high=10), "min_per_second": _NATURAL},
}
