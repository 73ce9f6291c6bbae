"""The settings, typed: what a TOML file can say, with defaults. Loading and checking live beside this file.

This is the process's own part and the whole; the policy language lies in `who`, `conditions`, `routing`, `rollout`,
`expectations` and `upstreams`. In TOML a duration is a string with a unit ("500ms", "2s", "10m", "1d"), a size likewise
("64MiB"); here they are `Seconds` (float) and `Bytes` (int). Unknown keys are errors.
"""

from pathlib import Path
from typing import Literal

import msgspec

from config.model.admin import AdminSettings
from config.model.conditions import SignalSettings
from config.model.expectations import TestSettings
from config.model.log import LogSettings
from config.model.metrics import MetricsSettings
from config.model.rollout import ExperimentSettings, ShadowSettings
from config.model.routing import CascadeSettings, RetryBudgetSettings, RouteSettings, RungSettings
from config.model.table import AUTO, AutoBytes, AutoCount, Bytes, Seconds, Table
from config.model.tenancy import KeySettings, Price, TenantSettings, TierSettings
from config.model.upstreams import UpstreamSettings


class ServerSettings(Table, frozen=True):
    """Where the edge listens and what it bounds."""

    host: str = "127.0.0.1"
    port: int = 8080
    max_body: Bytes = Bytes(4 * 2**20)
    body_memory: Bytes = Bytes(256 * 2**20)
    """Bodies of requests that are being read may take so much memory together; above it 503. At least `max_body`."""
    body_memory_per_key: Bytes = Bytes(128 * 2**20)
    """Of one key; above it 429. At least `max_body`."""
    body_memory_per_peer: Bytes = Bytes(128 * 2**20)
    """Of one address (an IPv6 network of 64 bits counts as one); above it 429. At least `max_body`. Not for loopback
    and `trusted_proxies`."""
    max_head: Bytes = Bytes(32 * 1024)
    """Request line and headers of one request."""
    max_headers: int = 100
    max_connections: int = 1000
    """That are answered, or whose body is read, at the same time; above it 503."""
    connections_per_key: int | None = None
    """Connections of one key that are answered at the same time; above it 429. None: nine tenths of
    `max_connections`."""
    connections_per_peer: int | None = None
    """Connections from one address; above it 429. None: `max_connections`, as a proxy in front is one address. Not for
    loopback and `trusted_proxies`."""
    probe_connections: int = 16
    """Beside `max_connections`: they answer health probes while all others are busy. Above both together, the one that
    was idle or silent the longest is closed for a newcomer."""
    tier_connections: int | None = None
    """Connections that each tier leaves free for every tier above it. None: a twentieth of `max_connections`."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks ("10.0.0.0/8") of proxies: bounds for one address do not count for them."""
    max_choices: int = 16
    """`n` times the number of prompts in one request."""
    max_inputs: int = 256
    """Inputs of one request for embeddings."""
    streams_per_socket: int = 64
    """Requests that run at once on one WebSocket."""
    messages_per_second: int = 1000
    """Requests, WebSocket frames and tiny packets of one connection; one that sends more is read more slowly."""
    header_timeout: Seconds = Seconds(10)
    """For a request's head, and for silence within its body."""
    body_timeout: Seconds = Seconds(60)
    """For the whole body of a request, from its head on, and for one message of a WebSocket."""
    body_rate: Bytes = Bytes(4096)
    """Bytes a second that a body must bring on the average."""
    keep_alive: Seconds = Seconds(75)
    heartbeat: Seconds = Seconds(10)
    """An SSE comment is sent to a stream that was silent this long."""
    write_stall: Seconds = Seconds(20)
    """A reader that takes nothing for this long is cut."""
    answer_model: Literal["asked", "served"] = "asked"
    """What clients read as `model` in an answer: the name that they asked for, or that of the model which served. The
    headers x-penstock-model-asked and x-penstock-model-served tell both."""
    drain: Seconds = Seconds(25)
    """After SIGTERM running requests may go on this long; then they get their terminal error event."""
    watch: bool = True
    """A changed file is taken up by itself; False: only when SIGHUP or the admin API says so."""
    ws_origins: tuple[str, ...] = ()
    """Browser origins (exact) whose pages may use the server, by HTTP (CORS) and by WebSocket, and without keys ask at
    all; other clients send no Origin and may."""


class LedgerSettings(Table, frozen=True):
    """Where usage is written down."""

    path: Path = Path("penstock.sqlite3")
    """Relative to the working directory; ":memory:" keeps it in memory, and a restart forgets what tenants have used
    and which experiments were rolled back."""


class KVSettings(Table, frozen=True):
    """The paged KV cache of one engine."""

    memory: AutoBytes = Bytes(AUTO)
    """"auto": engines that state nothing share half of the memory that is free beside all weights, adapters and
    stated pools (nine tenths on a GPU), and none takes more than `max_running` sequences of `max_model_len` could
    fill."""
    block_size: int = 16
    swap: Bytes = Bytes(0)
    """Host memory for blocks of the prefix cache that a GPU's pool evicts; a hit copies them back. Not on a CPU."""
    dtype: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """"auto": as the model computes. "int8", with a scale for each token and head, takes half of bfloat16's memory,
    at a small loss."""


class Speculate(Table, frozen=True):
    """Drafts by n-gram look-up: what followed these tokens the last time is expected to follow again.

    It changes when tokens come, never which. It pays where answers repeat their prompt, and costs where they do not.
    """

    ngram: int = 3
    """Tokens that must be the same."""
    tokens: int = 8
    """Length of a draft."""


class GpuSettings(Table, frozen=True):
    """How an engine with `device = "cuda:…"` computes; elsewhere only `kernels` counts."""

    kernels: Literal["auto", "triton", "portable"] = "auto"
    """auto: Triton's on a GPU where the package is installed. portable: plain torch, right everywhere and slow."""
    graphs: bool = True
    """Decode steps are replayed as CUDA graphs. Models with experts are not."""
    overlap: bool = True
    """The next step is launched before the last one's tokens are read. Not with `speculate`."""


class AdapterSettings(Table, frozen=True):
    """A LoRA adapter that is loaded with its engine."""

    path: Path
    """A folder as PEFT writes it: adapter_config.json, adapter_model.safetensors; relative to the TOML file."""


class EngineSettings(Table, frozen=True):
    """A model that this process runs."""

    model: Path
    """A directory with config.json, *.safetensors, tokenizer.json; relative to the TOML file."""
    device: str = "cpu"
    replicas: int = 1
    """Of the same model, each with its own thread, weights and KV cache; requests go to the one with least to do."""
    tensor_parallel: int = 1
    """Ranks that compute each replica together, each with its part of the weights and of the KV cache, one in the
    engine's thread and the others in processes of their own."""
    devices: tuple[str, ...] = ()
    """One for each rank of each replica, instead of `device`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    quantization: Literal["int8", "int4"] | None = None
    """Weights of the layers' products in so few bits (CPU only): less memory and faster decoding, at some loss."""
    quantization_group: int | None = None
    """Inputs that share a scale of int4 weights, a multiple of 2 that divides each matrix's inputs; None: 64."""
    threads: AutoCount = AUTO
    """Of each rank's own mathematics. "auto": the engines on the CPU share its cores, but for one that the event loop
    keeps."""
    kv: KVSettings = KVSettings()
    gpu: GpuSettings = GpuSettings()
    max_running: int = 32
    """Sequences that decode in one batch."""
    max_step_tokens: int = 256
    """Tokens (prefill and decode) of one step at the most."""
    prefill_chunk: int = 256
    """Prompt tokens of one sequence in one step at the most."""
    max_model_len: int | None = None
    """None: the model's own `max_position_embeddings`."""
    prefix_cache: bool = True
    generation_config: bool = True
    """The model's generation_config.json has a say where a request leaves temperature, top_p, top_k, min_p,
    repetition_penalty or its limit of tokens out; false: the API's defaults hold."""
    ignore_config_keys: tuple[str, ...] = ()
    """Keys of the model's config.json that are passed over; all others must be known, or the engine does not start."""
    ignore_tensors: tuple[str, ...] = ()
    """Tensors of the model's files that may be left unread, by name, with * for any part of it."""
    batch_invariant: bool = False
    """A request's bytes shall not depend on its company, on chunks or on preemptions, on any device and for any model.
    Compiled kernels are so anyway; plain torch becomes so, and slower (python -m benchmarks.engine.invariance)."""
    speculate: Speculate | None = None
    adapters: dict[str, AdapterSettings] = msgspec.field(default_factory=dict)
    """By the name that requests and ladders ask for."""
    max_adapters: int = 16
    """Loaded at the same time. Where the admin API is on and a model has `adapters = true`, `kv.memory = "auto"` leaves
    room for so many of `max_adapter_rank`."""
    max_adapter_rank: int = 64
    stall: Seconds = Seconds(30)
    """No step finished for this long while there is work: the engine is unhealthy."""


class ModelSettings(Table, frozen=True):
    """A name that clients may put into `model`."""

    description: str = ""
    adapters: bool = False
    """Clients may ask for NAME:ADAPTER, with any adapter that is loaded where the name is answered."""


class CoreSettings(Table, frozen=True):
    """How the engines on the CPU share its cores."""

    at_once: AutoCount = AUTO
    """Engines that compute at the same moment; if there are more they take turns, step by step, each for the same share
    of time. "auto": as many as there are cores."""


class Settings(Table, frozen=True, kw_only=True):
    """The whole file."""

    schema: Literal[1]
    server: ServerSettings = ServerSettings()
    ledger: LedgerSettings = LedgerSettings()
    admin: AdminSettings = AdminSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()
    cores: CoreSettings = CoreSettings()
    engines: dict[str, EngineSettings] = msgspec.field(default_factory=dict)
    upstreams: dict[str, UpstreamSettings] = msgspec.field(default_factory=dict)
    models: dict[str, ModelSettings]
    prices: dict[str, Price] = msgspec.field(default_factory=dict)
    """By rung. A rung without a price costs nothing."""
    tiers: dict[str, TierSettings] = msgspec.field(default_factory=lambda: {"default": TierSettings()})
    tenants: dict[str, TenantSettings] = msgspec.field(default_factory=dict)
    keys: tuple[KeySettings, ...] = ()
    """No keys: everybody is the tenant "anonymous" (tier "default" or [tenants.anonymous]), on loopback only."""
    signals: dict[str, SignalSettings] = msgspec.field(default_factory=dict)
    routes: tuple[RouteSettings, ...]
    cascades: dict[str, CascadeSettings] = msgspec.field(default_factory=dict)
    ladders: dict[str, tuple[RungSettings, ...]] = msgspec.field(default_factory=dict)
    retry_budget: RetryBudgetSettings = RetryBudgetSettings()
    experiments: tuple[ExperimentSettings, ...] = ()
    shadows: tuple[ShadowSettings, ...] = ()
    tests: tuple[TestSettings, ...] = ()
