"""The whole file, `Settings`, and the tables of the server, its admin API, metrics and log, the ledger and the engines.

The policy language is in `tenancy`, `conditions`, `routing`, `rollout`, `expectations` and `upstreams`. In TOML a
duration is a string with a unit ("500ms", "2s", "10m", "1d"), and so is a size ("64MiB"); here they are `Seconds`
(float) and `Bytes` (int). Unknown keys are errors.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from config.model.batch import BatchSettings
from config.model.bounds import Count, Natural, NonNegative, Port, within
from config.model.conditions import SignalSettings
from config.model.expectations import TestSettings
from config.model.failures import QuarantineSettings, WatchdogSettings
from config.model.judging import DecisionSettings, GuardrailSettings, ModerationSettings
from config.model.media import MediaSettings
from config.model.rerank import RerankSettings
from config.model.rollout import ExperimentSettings, ShadowSettings
from config.model.routing import CascadeSettings, RetryBudgetSettings, RouteSettings, RungSettings
from config.model.table import (
    AUTO,
    AutoBytes,
    AutoCount,
    Bytes,
    Moment,
    NonNegativeBytes,
    NonNegativeSeconds,
    PositiveBytes,
    PositiveSeconds,
    Seconds,
    Table,
)
from config.model.tenancy import KeySettings, Price, StoredKeys, TenantSettings, TierSettings
from config.model.upstreams import UpstreamSettings


class ServerSettings(Table, frozen=True):
    """The HTTP server: its address and its limits."""

    host: str = "127.0.0.1"
    port: Port = 8080
    max_body: PositiveBytes = Bytes(4 * 2**20)
    body_memory: PositiveBytes = Bytes(256 * 2**20)
    """Memory of all request bodies that are being read; above it 503. At least `max_body`."""
    body_memory_per_key: PositiveBytes = Bytes(128 * 2**20)
    """The same for one key; above it 429. At least `max_body`."""
    body_memory_per_peer: PositiveBytes = Bytes(128 * 2**20)
    """The same for one client address (an IPv6 /64 network counts as one); above it 429. At least `max_body`. Not for
    loopback and `trusted_proxies`."""
    max_head: Annotated[Bytes, within(1024)] = Bytes(32 * 1024)
    """Size of the request line and headers of one request."""
    max_headers: Count = 100
    max_connections: Count = 1000
    """Connections with a request that is being read or answered; above it 503."""
    connections_per_key: Count | None = None
    """Connections with a request of one key; above it 429. None: nine tenths of `max_connections`."""
    connections_per_peer: Count | None = None
    """Connections from one client address; above it 429. None: `max_connections`, since a proxy in front is one
    address. Not for loopback and `trusted_proxies`."""
    probe_connections: Natural = 16
    """Connections in addition to `max_connections`, which answer health probes while all others are busy. Above the sum
    the connection that has been idle the longest is closed for a new one."""
    tier_connections: Natural | None = None
    """Connections that a tier leaves free for every tier above it. None: a twentieth of `max_connections`."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks ("10.0.0.0/8") of proxies, to which limits per client address do not apply."""
    max_choices: Count = 16
    """Limit on `n` times the number of prompts in one request."""
    max_inputs: Count = 256
    """Limit on the inputs of one embeddings request."""
    streams_per_socket: Count = 64
    """Concurrent requests on one WebSocket."""
    messages_per_second: Annotated[int, within(10)] = 1000
    """Requests, WebSocket frames and tiny packets of one connection; above it the connection is read more slowly."""
    header_timeout: PositiveSeconds = Seconds(10)
    """Time limit for a request's head, and for a pause within its body."""
    body_timeout: PositiveSeconds = Seconds(60)
    """Time limit for the whole body of a request, and for one message of a WebSocket."""
    body_rate: PositiveBytes = Bytes(4096)
    """Minimum average rate at which a body must arrive, per second."""
    keep_alive: PositiveSeconds = Seconds(75)
    heartbeat: PositiveSeconds = Seconds(10)
    """An SSE comment is sent to a stream that was silent this long."""
    write_stall: PositiveSeconds = Seconds(20)
    """A client that reads nothing for this long is disconnected."""
    answer_model: Literal["asked", "served"] = "asked"
    """The `model` field of an answer: the name in the request, or the model that answered. The headers
    x-penstock-model-asked and x-penstock-model-served always contain both."""
    keep_answers: NonNegativeSeconds = Seconds(60)
    """How long an answer whose client asked for that (`Idempotency-Key`, `x-penstock-resumable`) goes on, and is kept,
    without a reader. 0: none is kept."""
    kept_memory: PositiveBytes = Bytes(128 * 2**20)
    """Memory of all kept answers; a tenant may use a quarter of it. What does not fit is answered, but not kept."""
    kept_file: Path | None = None
    """An SQLite file, relative to the working directory, with which kept answers survive the end of the process: what
    is sent of one is written there before. As large as `kept_memory`, at most. None: they are in memory only."""
    keep_background: PositiveSeconds = Seconds(3600)
    """How long an answer in the background (`x-penstock-background`) is kept, counted from its request; it runs no
    longer than that."""
    background_answers: Natural = 16
    """How many answers of one tenant run in the background at once; above it 429."""
    keep_responses: NonNegativeSeconds = Seconds(30 * 86_400)
    """How long a stored response (`/v1/responses` with `store`) or conversation is kept after its last use. 0: none is
    stored."""
    responses_memory: PositiveBytes = Bytes(64 * 2**20)
    """Bytes of all stored responses and conversations; a tenant may use a quarter of it. Beyond it, what was used the
    longest ago is dropped."""
    responses_file: Path | None = None
    """An SQLite file, relative to the working directory, for stored responses. None: they are in memory only."""
    drain: NonNegativeSeconds = Seconds(25)
    """After SIGTERM, how long running requests may continue before they end with an error event."""
    watch: bool = True
    """Reload changed files automatically; false: only on SIGHUP or by the admin API."""
    ws_origins: tuple[str, ...] = ()
    """Browser origins (exact) whose pages may use the server by HTTP (CORS) and WebSocket. Without keys, requests from
    other origins are refused; clients other than browsers send no Origin and are not affected."""


Role = Literal["read", "operate", "adapters", "keys"]
"""What a key of the admin API permits."""


class AdminKey(Table, frozen=True):
    """A key for the admin API, made by `penstock keys new --admin`. It also gives access to `/metrics`."""

    id: str
    hash: str
    """SHA-256 of the whole key, hex."""
    expires: Moment | None = None
    """From then on the key is refused. None: never."""
    roles: tuple[Role, ...] = ("read", "operate", "adapters", "keys")
    """read: policy, decisions, experiments, shadows, keys, adapters, checks of configurations, `/metrics`. operate:
    reloads, roll-backs, and everything else that changes how the service works. adapters: load and unload adapters,
    from any folder that the server can read. keys: make, replace and revoke tenants' keys in the `keys_file`."""


class AdminSettings(Table, frozen=True):
    """The admin API. It has its own address, apart from the API for clients."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: Port = 8081
    """0: any free port."""
    keys: tuple[AdminKey, ...] = ()
    """Without keys the admin API is available on loopback only, and not to web pages of other origins."""
    keys_file: Path | None = None
    """Where the admin API keeps the tenants' keys that it makes, relative to the TOML file; only their hashes are in
    it. With this every client needs a key, even while there is none. None: the admin API makes no keys."""
    stored: StoredKeys | None = None
    """What is in `keys_file`; filled in when the configuration is read."""
    decisions: Natural = 10_000
    """Number of recent decision records that are kept, for `penstock policy explain --id`."""
    decisions_memory: NonNegativeBytes = Bytes(32 * 2**20)
    """Limit on the memory of the decision records."""


class MetricsKey(Table, frozen=True):
    """A key for `/metrics` only, made by `penstock keys new --metrics`."""

    id: str
    hash: str
    """SHA-256 of the whole key, hex."""
    expires: Moment | None = None
    """From then on the key is refused. None: never."""


class MetricsSettings(Table, frozen=True):
    """Access to `/metrics`. It shows usage and spending of all tenants, so tenants' keys give no access."""

    keys: tuple[MetricsKey, ...] = ()
    """Keys for scrapers. Keys of the admin API give access as well. If there are neither these keys nor tenants' keys,
    no key is needed."""


class LogSettings(Table, frozen=True):
    """What is logged in addition to the server's own events."""

    requests: bool = True
    """Log an event `request_finished` for every request, however it ends: tenant, rungs, reasons, tokens, times and
    cost, but no text."""


class LedgerSettings(Table, frozen=True):
    """The ledger, which records usage."""

    path: Path = Path("penstock.sqlite3")
    """An SQLite file, relative to the working directory. ":memory:" keeps it in memory only: a restart then forgets the
    usage of tenants and which experiments were rolled back."""
    on_failure: Literal["refuse", "continue"] = "refuse"
    """While the file cannot be written (full disk, read-only, locked, deleted, I/O error). refuse: new requests get 503
    `ledger_unavailable`, answers that run go on. continue: new requests are served, too, and written when the file is
    back, until `unwritten` or `unwritten_cost` is reached. Either way the write is tried again every second."""
    unwritten: Count = 10_000
    """Openings and ends of entries that may wait in memory; with "continue" this is what a crash could lose."""
    unwritten_cost: NonNegative | None = None
    """Money reserved by entries that are not written, by [prices]; None: no limit beside `unwritten`."""


class KVSettings(Table, frozen=True):
    """The paged KV cache of one engine."""

    memory: AutoBytes = Bytes(AUTO)
    """"auto": engines with "auto" share half of the memory (nine tenths on a GPU) that is left by all weights, adapters
    and pools of a given size. No pool is larger than `max_running` sequences of `max_model_len` can fill."""
    block_size: Annotated[int, within(1, 256)] = 16
    """Tokens of one block."""
    swap: NonNegativeBytes = Bytes(0)
    """Host memory for prefix cache blocks that a GPU's pool evicts; a hit copies them back. No effect on a CPU."""
    dtype: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """"auto": the model's. "int8", with a scale for each token and head, takes half of bfloat16's memory, at a small
    loss of accuracy."""


class Speculate(Table, frozen=True):
    """Speculative decoding by n-gram look-up: drafts the tokens that followed the last n tokens earlier in the text.

    The tokens stay the same; only their timing changes. It is faster where answers repeat their prompt, else slower.
    """

    ngram: Annotated[int, within(1, 16)] = 3
    """Number of tokens that must match."""
    tokens: Annotated[int, within(1, 64)] = 8
    """Length of a draft."""


class GpuSettings(Table, frozen=True):
    """Settings of an engine with `device = "cuda:…"`; on a CPU only `kernels` has an effect."""

    kernels: Literal["auto", "triton", "portable"] = "auto"
    """auto: Triton kernels on a GPU if Triton is installed. portable: plain torch, which is slow but runs anywhere."""
    graphs: bool = True
    """Run decode steps as CUDA graphs; not for mixture-of-experts models."""
    overlap: bool = True
    """Launch the next step before the tokens of the last one are read; not with `speculate`."""


class AdapterSettings(Table, frozen=True):
    """A LoRA adapter that is loaded with its engine."""

    path: Path
    """A folder in PEFT's format: adapter_config.json, adapter_model.safetensors; relative to the TOML file."""


ReasoningWord = Literal["auto", "none", "think", "thinking", "reasoning", "seed", "brackets"]
"""The others are presets: `engine.text.reasoning.PRESETS`."""


class EngineSettings(Table, frozen=True):
    """An engine: a model that runs in this process."""

    model: Path
    """A directory with config.json, *.safetensors, tokenizer.json; relative to the TOML file."""
    device: str = "cpu"
    host: Literal["thread", "process"] = "thread"
    """Where its steps run: in a thread of the gateway, or in a process of their own, whose end (a segmentation fault,
    the system's lack of memory) costs this engine only. Without adapters."""
    spare: bool = True
    """With host = "process": keep one more process, for all engines, which has imported what an engine needs (some
    230 MB), so that one that has ended is replaced in a second."""
    replicas: Annotated[int, within(1, 64)] = 1
    """Replicas of the model, with separate threads, weights and KV caches; requests go to the least loaded one."""
    tensor_parallel: Annotated[int, within(1, 64)] = 1
    """Ranks of every replica, each with a part of the weights and of the KV cache. The first runs in the engine's
    thread, the others in processes of their own."""
    devices: tuple[str, ...] = ()
    """The devices of all ranks of all replicas, instead of `device`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    quantization: Literal["int8", "int4"] | None = None
    """Quantize the weights of linear layers (CPU only): less memory and faster decoding, at some loss of accuracy."""
    quantization_group: Annotated[int, within(2, multiple_of=2)] | None = None
    """Inputs that share a scale of int4 weights, a multiple of 2 that divides every matrix's inputs; None: 64."""
    threads: Annotated[int, within(1, 1024, auto=True)] = AUTO
    """Compute threads of one rank. "auto": the engines on the CPU share all cores but one, which the event loop
    keeps."""
    kv: KVSettings = KVSettings()
    gpu: GpuSettings = GpuSettings()
    max_running: Count = 32
    """Maximum number of sequences that decode in one batch."""
    batch_beside: AutoCount = AUTO
    """How many sequences of batches (`/v1/batches`) decode beside others. The rest pauses until no other sequence
    runs, and all of them while one waits for its first token. "auto": `max_running` on a GPU; on a CPU, where each one
    slows down the others, none."""
    max_step_tokens: Count = 256
    """Maximum number of tokens (prefill and decode) in one step."""
    prefill_chunk: Count = 256
    """Maximum number of prompt tokens of one sequence in one step."""
    max_model_len: Annotated[int, within(2)] | None = None
    """None: the model's own `max_position_embeddings`."""
    prefix_cache: bool = True
    generation_config: bool = True
    """Use the model's generation_config.json for temperature, top_p, top_k, min_p, repetition_penalty and the token
    limit if a request does not set them; false: use the API's defaults."""
    reasoning: ReasoningWord = "auto"
    """The markers of the reasoning in answers to messages: "think" for <think>…</think>, "thinking" and "reasoning"
    likewise, "seed" for <seed:think>, "brackets" for [THINK]; "none": it stays in the text. "auto": the pair whose
    closing marker the chat template has, or whose two markers are added tokens of the tokenizer."""
    reasoning_markers: tuple[str, ...] = ()
    """Instead of `reasoning`: the text that opens it and the text that closes it."""
    ignore_config_keys: tuple[str, ...] = ()
    """Keys of the model's config.json to ignore. All others must be known, or the engine does not start."""
    ignore_tensors: tuple[str, ...] = ()
    """Names of tensors in the model's files that need not be used, with * as a wildcard."""
    batch_invariant: bool = False
    """Outputs must not depend on other requests in the batch, on chunking or on preemption, on any device and model.
    Compiled kernels always guarantee this; plain torch becomes slower (python -m benchmarks.engine.invariance)."""
    speculate: Speculate | None = None
    rerank: RerankSettings | None = None
    """The model makes scores of two texts, from its answer to a question about them. None: as its files say."""
    adapters: dict[str, AdapterSettings] = msgspec.field(default_factory=dict)
    """By name, as in requests and ladders."""
    max_adapters: Natural = 16
    """Maximum number of loaded adapters. If the admin API is enabled and a model has `adapters = true`,
    `kv.memory = "auto"` reserves memory for this many adapters of `max_adapter_rank`."""
    max_adapter_rank: Count = 64
    stall: PositiveSeconds = Seconds(20)
    """The engine is unhealthy if it has work and no step finishes for this long."""
    load_stall: PositiveSeconds = Seconds(1800)
    """The same while it is loaded, and no part of the loading ends."""


class ModelSettings(Table, frozen=True):
    """A model name that clients can use in requests."""

    description: str = ""
    adapters: bool = False
    """Clients may request NAME:ADAPTER, with any adapter that is loaded where this model is answered."""


class CoreSettings(Table, frozen=True):
    """How engines on the CPU share its cores."""

    at_once: AutoCount = AUTO
    """Engines that compute at the same time. If there are more, they alternate step by step with equal shares of time.
    "auto": as many as there are cores."""


class Settings(Table, frozen=True, kw_only=True):
    """The whole file."""

    schema: Literal[1]
    server: ServerSettings = ServerSettings()
    ledger: LedgerSettings = LedgerSettings()
    admin: AdminSettings = AdminSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()
    cores: CoreSettings = CoreSettings()
    batch: BatchSettings = BatchSettings()
    quarantine: QuarantineSettings = QuarantineSettings()
    media: MediaSettings = MediaSettings()
    watchdog: WatchdogSettings = WatchdogSettings()
    engines: dict[str, EngineSettings] = msgspec.field(default_factory=dict)
    upstreams: dict[str, UpstreamSettings] = msgspec.field(default_factory=dict)
    models: dict[str, ModelSettings]
    decisions: dict[str, DecisionSettings] = msgspec.field(default_factory=dict)
    """By engine. The decisions of an engine without a table are not calibrated."""
    moderations: dict[str, ModerationSettings] = msgspec.field(default_factory=dict)
    """By the name that clients write into `model`; without one the first answers."""
    guardrails: dict[str, GuardrailSettings] = msgspec.field(default_factory=dict)
    """In this order; the first that refuses ends the request."""
    prices: dict[str, Price] = msgspec.field(default_factory=dict)
    """By rung. A rung without a price is free."""
    tiers: dict[str, TierSettings] = msgspec.field(default_factory=lambda: {"default": TierSettings()})
    tenants: dict[str, TenantSettings] = msgspec.field(default_factory=dict)
    keys: tuple[KeySettings, ...] = ()
    """Without keys all requests belong to the tenant "anonymous" (tier "default", or as in [tenants.anonymous]), and
    only loopback addresses are allowed."""
    signals: dict[str, SignalSettings] = msgspec.field(default_factory=dict)
    routes: tuple[RouteSettings, ...]
    cascades: dict[str, CascadeSettings] = msgspec.field(default_factory=dict)
    ladders: dict[str, tuple[RungSettings, ...]] = msgspec.field(default_factory=dict)
    retry_budget: RetryBudgetSettings = RetryBudgetSettings()
    experiments: tuple[ExperimentSettings, ...] = ()
    shadows: tuple[ShadowSettings, ...] = ()
    tests: tuple[TestSettings, ...] = ()

    @property
    def extra_request_fields(self) -> frozenset[str]:
        """Those that some upstream knows."""
        return frozenset([name for each in self.upstreams.values() for name in each.extra_request_fields])

    @property
    def keyed(self) -> bool:
        """Every client needs a key."""
        return bool(self.keys) or self.admin.keys_file is not None

    @property
    def stored_keys(self) -> tuple[KeySettings, ...]:
        """The keys of the keys file that open something: those of tenants that there are."""
        stored = self.admin.stored or StoredKeys()
        return tuple([key for key in stored.keys if key.tenant in self.tenants])
