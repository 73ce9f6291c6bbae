"""Selection of the `Kernels` implementation."""

from importlib.util import find_spec
from typing import Literal

import torch

from config.model.settings import EngineSettings
from engine.errors import ModelError
from engine.forward.cpu import CpuKernels
from engine.forward.interface import Kernels
from engine.forward.portable import TorchKernels
from engine.forward.rope import rotations
from engine.memory.kv_pool import KvPool
from engine.model.model_config import ModelConfig
from engine.sampler.device_sampler import Pick, pick_plain

KernelKind = Literal["compiled", "triton", "portable"]


def choose_kernels(
    settings: EngineSettings, config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> KernelKind:
    """Compiled kernels on a CPU, Triton on a GPU, else portable ones. Raises ModelError if settings ask for others."""
    requested = settings.gpu.kernels
    installed = find_spec("triton") is not None
    # Triton's kernels need pages of the compute dtype.
    alike = settings.kv.dtype in {"auto", str(dtype).removeprefix("torch.")}
    if requested == "triton":
        if why := _why_not_triton(settings, device, alike=alike, installed=installed):
            raise ModelError("gpu_kernels", f'gpu.kernels = "triton" {why}')
        return "triton"
    pages_known = installed and alike
    if requested == "auto" and device.type == "cuda" and pages_known and not settings.batch_invariant:
        return "triton"
    if requested == "auto" and CpuKernels.unfit(config, settings.kv.block_size, device, dtype) is None:
        return "compiled"
    return "portable"


def _why_not_triton(settings: EngineSettings, device: torch.device, *, alike: bool, installed: bool) -> str | None:
    if not alike:
        return f'does not read KV pages of {settings.kv.dtype}; leave one of both at "auto"'
    if settings.batch_invariant:
        what = "and batch_invariant exclude each other: Triton's split their sums by the batch"
        return f'{what}; leave kernels at "auto"'
    if not installed:
        return 'needs Triton: pip install "penstock[gpu]"'
    if device.type != "cuda" and not _interpreted():
        what = "on a CPU Triton can only be interpreted, for tests: TRITON_INTERPRET=1"
        return f'needs a GPU, and device is "{device}"; leave it at "auto" ({what})'
    return None


def choose_pick(kind: KernelKind) -> Pick:
    """The matching implementation of token choice on the device."""
    if kind == "triton":
        from engine.forward.triton_kernels import pick_fused

        return pick_fused
    return pick_plain


def _interpreted() -> bool:
    from triton import knobs

    return bool(knobs.runtime.interpret)


def make_kernels(
    kind: KernelKind,
    settings: EngineSettings,
    config: ModelConfig,
    pool: KvPool,
    *,
    max_len: int,
    max_model_len: int,
    dtype: torch.dtype,
    tile: int = 0,
) -> Kernels:
    """Create the kernels for `pool`, whose keys are transposed for the compiled ones only.

    `max_len`: maximum sequence length in tokens that fits into the pool; `max_model_len`: without that limit. `tile`:
    for the portable ones, see `engine.kernels.tiles`.
    """
    device = pool.keys.device
    tables = rotations(config, max_len, max_model_len)
    if kind == "compiled":
        return CpuKernels(
            config, pool, tables, dtype=dtype, max_rows=max(settings.max_step_tokens, 2), threads=settings.threads
        )
    if kind == "triton":
        from engine.forward.triton_kernels import TritonKernels

        return TritonKernels(
            config,
            pool,
            tables,
            dtype=dtype,
            device=device,
            max_rows=max(settings.max_step_tokens, 2),
            max_sequences=settings.max_running,
            max_len=max_len,
        )
    return TorchKernels(config, pool, [(cos.to(device), sin.to(device)) for cos, sin in tables], dtype, tile=tile)
