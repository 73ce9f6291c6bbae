"""Replace "auto" in engine settings by numbers: threads and KV pools of engines that share this machine."""

from collections.abc import Mapping

import msgspec
from safetensors import SafetensorError, safe_open

from config.model.settings import EngineSettings
from config.model.table import AUTO, Bytes
from config.model.units import write_size
from engine.errors import ModelError
from engine.memory.kv_sizing import KvDemand, kv_sizes, kv_token_bytes
from engine.memory.machine import available_cores, available_memory
from engine.model.model_config import ModelConfig, read_model_config

_MEMORY_SHARE = 0.5
"""Of host memory free beside weights and stated pools. The rest is for activations, text and other processes."""
_EMBEDDING = "model.embed_tokens.weight"
"""The tensor whose dtype on disk decides the compute dtype under "auto"."""
_WIDTHS = {"float32": 4, "bfloat16": 2, "int8": 1}
_DEVICE_SHARE = 0.9
"""The same share on a GPU, where no other process runs and the memory of steps is computed."""


class Resolved(msgspec.Struct, frozen=True):
    """One engine's settings without "auto", and a message about how its pool was sized."""

    settings: EngineSettings
    message: str


def resolve(engines: Mapping[str, EngineSettings], *, more_adapters: bool = False) -> dict[str, Resolved]:
    """Replace each "auto", before any of these engines is loaded.

    `more_adapters`: adapters beyond the configured ones may be loaded at run time; memory is reserved for them.

    An engine whose model directory cannot be read, or whose device is missing, keeps its "auto": loading it reports the
    error.
    """
    threads = threads_per_engine(
        sum(engine.tensor_parallel for engine in engines.values() if _device(engine) == "cpu"), available_cores()
    )
    with_threads = {
        name: msgspec.structs.replace(engine, threads=threads) if engine.threads == AUTO else engine
        for name, engine in engines.items()
    }
    resolved = {name: Resolved(engine, "") for name, engine in with_threads.items()}
    for device in {_device(engine) for engine in with_threads.values()}:
        on_device = {name: engine for name, engine in with_threads.items() if _device(engine) == device}
        free = available_memory() if device == "cpu" else _device_memory(device)
        if free is not None:
            share = _MEMORY_SHARE if device == "cpu" else _DEVICE_SHARE
            resolved |= _with_pools(on_device, free, share, more_adapters=more_adapters)
    return resolved


def resolve_alone(settings: EngineSettings) -> EngineSettings:
    """The same for an engine that has the machine to itself. Settings without "auto" are returned unchanged."""
    if AUTO not in (settings.threads, settings.kv.memory):
        return settings
    return resolve({"": settings})[""].settings


def threads_per_engine(engines: int, cores: int) -> int:
    """Threads per engine (tensor-parallel ranks count one by one).

    One core is reserved for the event loop if there are more cores than engines.
    """
    return max((cores - 1) // max(engines, 1), 1)


def _with_pools(
    engines: Mapping[str, EngineSettings], free: int, share: float, *, more_adapters: bool
) -> dict[str, Resolved]:
    candidates = {name: _demand(engine, more_adapters=more_adapters) for name, engine in engines.items()}
    demands = {name: demand for name, demand in candidates.items() if demand is not None}
    sizes = kv_sizes(free, share, demands)
    auto_sized = sum(not demand.stated_bytes for demand in demands.values())
    resolved = {}
    for name, demand in demands.items():
        settings, size = engines[name], sizes[name]
        blocks = size // (demand.token_bytes * demand.block_size)
        message = f"KV pool: {_size(size)}, {blocks} blocks of {demand.block_size} tokens"
        if not demand.stated_bytes:
            enough = ": all that its sequences could ever fill" if size == demand.max_bytes else ""
            message += f' ("auto"; {_size(free)} free, engines that share it: {auto_sized}{enough})'
        if demand.adapter_bytes:
            message += f"; {_size(demand.adapter_bytes)} for adapters: {len(settings.adapters)} configured"
            if more_adapters:
                others = settings.max_adapters - len(settings.adapters)
                message += f", {others} more of rank {settings.max_adapter_rank} that may be loaded"
        # At least 1 byte, because 0 means "auto"; `KvPool` reports a size that is too small.
        kv = msgspec.structs.replace(settings.kv, memory=Bytes(max(size // _pools(settings), 1)))
        resolved[name] = Resolved(msgspec.structs.replace(settings, kv=kv), message)
    return resolved


def longest_sequence(settings: EngineSettings) -> int:
    """Tokens, by the model, the settings and a pool whose size they state; one that is "auto" is taken to be enough.

    Raises ModelError.
    """
    config = read_model_config(settings.model, None)
    longest = min(settings.max_model_len or config.max_positions, config.max_positions)
    if settings.kv.memory == AUTO:
        return longest
    block = kv_token_bytes(config, _kv_width(settings)) // settings.tensor_parallel * settings.kv.block_size
    return min(longest, (settings.kv.memory // block - 1) * settings.kv.block_size)


def _demand(settings: EngineSettings, *, more_adapters: bool) -> KvDemand | None:
    try:
        config = read_model_config(settings.model, settings.ignore_config_keys)
        files = list(settings.model.glob("*.safetensors"))
        weight_bytes = sum(file.stat().st_size for file in files)
        token_bytes = kv_token_bytes(config, _kv_width(settings))
        adapter_bytes = _adapter_bytes(settings, config, more=more_adapters)
        if _device(settings) != "cpu":
            # On GPUs each rank has a device of its own; on the CPU they share one memory.
            weight_bytes //= settings.tensor_parallel
            weight_bytes += _steps_on_device(settings, config)
            token_bytes //= settings.tensor_parallel
    except (ModelError, OSError, SafetensorError):
        return None
    longest = min(settings.max_model_len or config.max_positions, config.max_positions)
    stated = settings.kv.memory * _pools(settings)
    return KvDemand(
        weight_bytes, token_bytes, settings.kv.block_size, settings.max_running * longest, stated, adapter_bytes
    )


def _adapter_bytes(settings: EngineSettings, config: ModelConfig, *, more: bool) -> int:
    if settings.tensor_parallel > 1 or not (settings.adapters or more):
        return 0
    from engine.lora.sizes import folder_bytes, largest_bytes

    width = _compute_width(settings)
    configured = sum(folder_bytes(config, adapter.path, width) for adapter in settings.adapters.values())
    others = (settings.max_adapters - len(settings.adapters)) if more else 0
    return configured + others * largest_bytes(config, settings.max_adapter_rank, width)


def _pools(settings: EngineSettings) -> int:
    """Number of ranks whose pools of `kv.memory` bytes each lie in the same memory."""
    return settings.tensor_parallel if _device(settings) == "cpu" else 1


def _kv_width(settings: EngineSettings) -> int:
    """Bytes per element of the pool; "auto" is the compute dtype."""
    return _compute_width(settings) if settings.kv.dtype == "auto" else _WIDTHS[settings.kv.dtype]


def _compute_width(settings: EngineSettings) -> int:
    """Bytes per element of the compute dtype.

    Estimated without probing the processor: a half-precision model on a processor without bfloat16 computes in float32,
    and gets half as many blocks.
    """
    if settings.dtype != "auto":
        return _WIDTHS[settings.dtype]
    for path in sorted(settings.model.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            for name in (_EMBEDDING, _EMBEDDING.removeprefix("model.")):
                if name in file.keys():  # noqa: SIM118 - it is no dictionary
                    return 4 if file.get_slice(name).get_dtype() == "F32" else 2
    return 2


def _device(settings: EngineSettings) -> str:
    """The device's name with its index, so that equal memories have equal names."""
    name = (settings.devices or (settings.device,))[0]
    return name if name == "cpu" or ":" in name else f"{name}:0"


def _steps_on_device(settings: EngineSettings, config: ModelConfig) -> int:
    """Bytes that steps take of a device's memory; loading the engine checks the same number."""
    import torch

    from engine.memory.gpu_memory import step_bytes

    return step_bytes(settings, config, torch.float32 if settings.dtype == "float32" else torch.bfloat16)


def _device_memory(device: str) -> int | None:
    """Free bytes on a device other than the CPU; None: the backend does not report it."""
    import torch

    try:
        return int(torch.accelerator.get_memory_info(device)[0])
    except (RuntimeError, AssertionError, NotImplementedError, ValueError):
        return None


def _size(size: int) -> str:
    """Text in whole units."""
    for unit in (2**30, 2**20, 2**10):
        if size >= 10 * unit:
            return write_size(size // unit * unit)
    return write_size(size)
