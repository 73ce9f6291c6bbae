"""Settings in which nothing is left to "auto": what engines that run side by side get of this machine."""

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
"""Of what is free beside weights and stated pools; the rest is for batches, texts, and whoever else runs here."""
_EMBEDDING = "model.embed_tokens.weight"
"""Its type on disk is what the model computes in, if nothing is stated."""
_WIDTHS = {"float32": 4, "bfloat16": 2, "int8": 1}
_DEVICE_SHARE = 0.9
"""The same of a device's own memory, where nothing else runs and what steps take is known."""


class Resolved(msgspec.Struct, frozen=True):
    """One engine's settings, and how its pool came to its size, in words."""

    settings: EngineSettings
    said: str


def resolve(engines: Mapping[str, EngineSettings], *, more_adapters: bool = False) -> dict[str, Resolved]:
    """Replace each "auto" by what comes out here and now, before any of these engines is loaded.

    `more_adapters`: others than the configured ones may be loaded while they serve, and have their room.

    An engine whose model directory cannot be read, or whose device is not there, keeps its "auto": loading it says
    best what is wrong.
    """
    threads = threads_each(
        sum(each.tensor_parallel for each in engines.values() if _device(each) == "cpu"), available_cores()
    )
    found = {
        name: msgspec.structs.replace(each, threads=threads) if each.threads == AUTO else each
        for name, each in engines.items()
    }
    resolved = {name: Resolved(each, "") for name, each in found.items()}
    for device in {_device(each) for each in found.values()}:
        there = {name: each for name, each in found.items() if _device(each) == device}
        free = available_memory() if device == "cpu" else _device_memory(device)
        if free is not None:
            share = _MEMORY_SHARE if device == "cpu" else _DEVICE_SHARE
            resolved |= _with_pools(there, free, share, more_adapters=more_adapters)
    return resolved


def resolve_alone(settings: EngineSettings) -> EngineSettings:
    """The same for an engine that has the machine to itself. What states everything stays as it is."""
    if AUTO not in (settings.threads, settings.kv.memory):
        return settings
    return resolve({"": settings})[""].settings


def threads_each(engines: int, cores: int) -> int:
    """Threads of each of so many engines (ranks count one by one).

    One core is left to the event loop, if there is more than one a piece.
    """
    return max((cores - 1) // max(engines, 1), 1)


def _with_pools(
    engines: Mapping[str, EngineSettings], free: int, share: float, *, more_adapters: bool
) -> dict[str, Resolved]:
    found = {name: _demand(each, more_adapters=more_adapters) for name, each in engines.items()}
    demands = {name: demand for name, demand in found.items() if demand is not None}
    sizes = kv_sizes(free, share, demands)
    asking = sum(not demand.stated_bytes for demand in demands.values())
    resolved = {}
    for name, demand in demands.items():
        settings, size = engines[name], sizes[name]
        blocks = size // (demand.token_bytes * demand.block_size)
        said = f"KV pool: {_size(size)}, {blocks} blocks of {demand.block_size} tokens"
        if not demand.stated_bytes:
            enough = ": all that its sequences could ever fill" if size == demand.most else ""
            said += f' ("auto"; {_size(free)} free, engines that share it: {asking}{enough})'
        if demand.adapter_bytes:
            said += f"; {_size(demand.adapter_bytes)} for {_adapters_said(settings, more=more_adapters)}"
        # Nothing would read as "auto" again. The pool itself says what is wrong with so little.
        kv = msgspec.structs.replace(settings.kv, memory=Bytes(max(size // _pools(settings), 1)))
        resolved[name] = Resolved(msgspec.structs.replace(settings, kv=kv), said)
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


def _adapters_said(settings: EngineSettings, *, more: bool) -> str:
    configured = len(settings.adapters)
    said = f"adapters: {configured} configured"
    if more:
        said += f", {settings.max_adapters - configured} more of rank {settings.max_adapter_rank} that may be loaded"
    return said


def _demand(settings: EngineSettings, *, more_adapters: bool) -> KvDemand | None:
    try:
        config = read_model_config(settings.model, settings.ignore_config_keys)
        files = list(settings.model.glob("*.safetensors"))
        weight_bytes = sum(file.stat().st_size for file in files)
        token_bytes = kv_token_bytes(config, _kv_width(settings))
        adapter_bytes = _adapter_bytes(settings, config, more=more_adapters)
        if _device(settings) != "cpu":
            # Each rank has a device of its own; on the CPU they share one memory.
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
    configured = sum(folder_bytes(config, each.path, width) for each in settings.adapters.values())
    others = (settings.max_adapters - len(settings.adapters)) if more else 0
    return configured + others * largest_bytes(config, settings.max_adapter_rank, width)


def _pools(settings: EngineSettings) -> int:
    """Ranks whose pools, of `kv.memory` each, lie in one memory."""
    return settings.tensor_parallel if _device(settings) == "cpu" else 1


def _kv_width(settings: EngineSettings) -> int:
    """Bytes of a number in the pool, which by itself has the type that the model computes in."""
    return _compute_width(settings) if settings.kv.dtype == "auto" else _WIDTHS[settings.kv.dtype]


def _compute_width(settings: EngineSettings) -> int:
    """Bytes of a number in which the model computes.

    Where the processor has no bfloat16 a half-precision model computes in float32, and gets half as many blocks.
    """
    if settings.dtype != "auto":
        return _WIDTHS[settings.dtype]
    for path in sorted(settings.model.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            if _EMBEDDING in file.keys():  # noqa: SIM118 - it is no dictionary
                return 4 if file.get_slice(_EMBEDDING).get_dtype() == "F32" else 2
    return 2


def _device(settings: EngineSettings) -> str:
    """One name for each memory."""
    name = (settings.devices or (settings.device,))[0]
    return name if name == "cpu" or ":" in name else f"{name}:0"


def _steps_on_device(settings: EngineSettings, config: ModelConfig) -> int:
    """Bytes that steps take of a device's memory, which the engine will insist on."""
    import torch

    from engine.memory.gpu_memory import step_bytes

    return step_bytes(settings, config, torch.float32 if settings.dtype == "float32" else torch.bfloat16)


def _device_memory(device: str) -> int | None:
    """Bytes that are free on another device than the CPU; None: it cannot be asked."""
    import torch

    try:
        return int(torch.accelerator.get_memory_info(device)[0])
    except (RuntimeError, AssertionError, NotImplementedError, ValueError):
        return None


def _size(size: int) -> str:
    """In whole units: exact sizes are for files."""
    for unit in (2**30, 2**20, 2**10):
        if size >= 10 * unit:
            return write_size(size // unit * unit)
    return write_size(size)
