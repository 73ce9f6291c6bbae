"""The Triton kernels compared with plain torch: compiled on a GPU, elsewhere in Triton's interpreter."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.forward.interface import Kernels
from engine.forward.portable import TorchKernels
from engine.forward.rope import rotations
from engine.memory.kv_pool import KvPool
from engine.model.model_config import ModelConfig
from engine.scheduling.batch import Batch
from tests.engine.kernel_cases import layer, shape, step
from tests.paths import ROOT

pytest.importorskip("triton", reason='Triton is not installed: pip install "penstock[gpu]" (Linux only)')

from engine.forward.triton_kernels import TritonKernels

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def kernels(config: ModelConfig, dtype: torch.dtype, size: int, *, triton: bool) -> Kernels:
    pool = KvPool(config, memory_bytes=2**22, block_size=size, dtype=dtype, device=DEVICE, transposed_keys=False)
    generator = torch.Generator().manual_seed(3)
    for pages in (pool.keys, pool.values):
        pages.copy_(torch.randn(pages.shape, generator=generator))
    rotation = [(cos.to(DEVICE), sin.to(DEVICE)) for cos, sin in rotations(config, config.max_positions)]
    if not triton:
        return TorchKernels(config, pool, rotation, dtype)
    sizes = {"max_rows": 512, "max_sequences": 4, "max_len": 512}
    return TritonKernels(config, pool, rotation, dtype=dtype, device=DEVICE, **sizes)


def rows_of(config: ModelConfig, dtype: torch.dtype, count: int) -> Tensor:
    width = (config.heads + 2 * config.kv_heads) * config.head_dim
    return torch.randn(count, width).to(DEVICE, dtype)


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "size", "window", "dtype", "options"),
    [
        (4, 2, 32, 16, 0, torch.float32, {}),
        (7, 1, 16, 16, 0, torch.bfloat16, {"qk_norm": True}),
        (3, 3, 128, 32, 40, torch.float32, {}),
        (8, 2, 64, 16, 130, torch.bfloat16, {"qk_norm": True, "score_cap": 5.0}),
        (8, 2, 64, 16, 130, torch.float32, {"qk_norm": True, "score_cap": 5.0}),
        (5, 1, 48, 8, 7, torch.float32, {}),
        (4, 2, 16, 16, 0, torch.float32, {"rotary_dim": 12}),
    ],
)
def test_attention_equals_gather_and_sdpa(  # noqa: PLR0917
    heads: int, kv_heads: int, head_dim: int, size: int, window: int, dtype: torch.dtype, options: dict
) -> None:
    """Prefills, decodes and both together; contexts of several splits, with earlier KV."""
    torch.manual_seed(0)
    config = shape(heads, kv_heads, head_dim, window, **options)
    weights = layer(config)
    plain, fast = (kernels(config, dtype, size, triton=triton) for triton in (False, True))
    rows = [rows_of(config, dtype, 300) for _ in range(3)]
    tolerance = 2e-5 if dtype == torch.float32 else 3e-2
    starts = [0, 7, 270]
    for ends in ([1, 40, 287], [2, 50, 288], [3, 51, 289]):
        work = list(zip(rows, starts, ends, strict=True))
        want = step(plain, config, weights, size, work)
        got = step(fast, config, weights, size, work)
        torch.testing.assert_close(got, want, atol=tolerance, rtol=tolerance)
        starts = ends


def test_a_decode_is_the_same_to_the_last_bit_in_any_company() -> None:
    """Two splits of a context alone, with another decode, and with a prefill; the first sequence's blocks stay."""
    torch.manual_seed(1)
    config = shape(6, 2, 32, 0)
    weights = layer(config)
    mine, others = rows_of(config, torch.float32, 291), rows_of(config, torch.float32, 400)
    want = step(kernels(config, torch.float32, 16, triton=True), config, weights, 16, [(mine, 290, 291)], every=3)
    together = kernels(config, torch.float32, 16, triton=True)
    got = step(together, config, weights, 16, [(mine, 290, 291), (others, 270, 271), (others, 3, 9)])
    assert torch.equal(got[:1], want)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_norms_and_gate_equal_torch(dtype: torch.dtype, activation: str) -> None:
    torch.manual_seed(2)
    rows = 5
    config = shape(2, 2, 16, 0, activation=activation)
    pair = [kernels(config, dtype, 16, triton=triton) for triton in (False, True)]
    embedded, added, apart = (torch.randn(rows, 48).to(DEVICE, dtype) for _ in range(3))
    weight, gate_up = torch.rand(48, device=DEVICE), (4 * torch.randn(rows, 3000)).to(DEVICE, dtype)
    gate_up[0, :4] = torch.tensor([-200.0, -80.0, 80.0, 200.0])
    results = []
    for target in pair:
        none = np.zeros(0, np.int32)
        target.prepare(Batch(none, none, none, np.zeros(1, np.int32), none, np.zeros((0, 1), np.int32), []), rows)
        target.start(embedded)
        results.append(
            [
                target.norm(weight),
                target.add_norm(added, weight),
                target.normed(apart, weight),
                target.add_norm(added, weight),
                target.gate(gate_up),
            ]
        )
    tolerance = 2e-6 if dtype == torch.float32 else 1e-2
    for want, got in zip(*results, strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got, want, atol=tolerance, rtol=2 * tolerance)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="Triton's tools for NVIDIA's machine code are for x86-64")
def test_they_compile_for_a_gpu_and_spill_nothing(tmp_path: Path) -> None:
    """The interpreter accepts code that the compiler rejects, so compile for a Hopper GPU, present or not."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(tmp_path)}
    script = ROOT / "tests" / "engine" / "compile_kernels.py"
    told = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr[-2000:]
    used = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(used) == 9
    assert [each for each in used if each["stack"]] == []
