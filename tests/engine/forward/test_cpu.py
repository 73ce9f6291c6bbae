"""The compiled kernels compared with plain torch, and the independence of a row from its batch."""

import numpy as np
import pytest
import torch

from engine.forward.cpu import CpuKernels
from engine.forward.interface import Kernels
from engine.forward.portable import TorchKernels
from engine.forward.rope import rotations
from engine.memory.kv_pool import KvPool
from engine.model.model_config import ModelConfig
from engine.scheduling.batch import Batch
from tests.engine.kernel_cases import layer, shape, step

CPU = torch.device("cpu")


def kernels(
    config: ModelConfig,
    dtype: torch.dtype,
    size: int,
    *,
    compiled: bool,
    threads: int = 1,
    paged: torch.dtype | None = None,
) -> Kernels:
    pool = KvPool(
        config, memory_bytes=2**24, block_size=size, dtype=paged or dtype, device=CPU, transposed_keys=compiled
    )
    rotation = rotations(config, config.max_positions)
    if compiled:
        return CpuKernels(config, pool, rotation, dtype=dtype, max_rows=64, threads=threads)
    return TorchKernels(config, pool, rotation, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "size", "window", "qk_norm"),
    [
        (4, 2, 32, 16, 0, False),
        (7, 1, 16, 16, 0, True),
        (3, 3, 128, 32, 40, False),
        (12, 4, 64, 16, 130, True),
        (5, 1, 48, 256, 7, False),
    ],
)
def test_attention_equals_gather_and_sdpa(  # noqa: PLR0917
    dtype: torch.dtype, heads: int, kv_heads: int, head_dim: int, size: int, window: int, qk_norm: bool
) -> None:
    torch.manual_seed(0)
    config = shape(heads, kv_heads, head_dim, window, qk_norm=qk_norm)
    weights = layer(config)
    width = (heads + 2 * kv_heads) * head_dim
    plain, fast = (kernels(config, dtype, size, compiled=compiled) for compiled in (False, True))
    rows = [torch.randn(200, width).to(dtype) for _ in range(3)]
    tolerance = 2e-5 if dtype == torch.float32 else 2e-2
    starts = [0, 0, 0]
    for ends in ([1, 37, 150], [2, 100, 151], [3, 129, 200]):
        work = [(sequence, first, end) for sequence, first, end in zip(rows, starts, ends, strict=True)]
        want = step(plain, config, weights, size, work)
        got = step(fast, config, weights, size, work)
        torch.testing.assert_close(got, want, atol=tolerance, rtol=tolerance)
        starts = ends


TYPES = [
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.int8),
    (torch.bfloat16, torch.float32),
    (torch.bfloat16, torch.int8),
]


@pytest.mark.parametrize(("dtype", "paged"), TYPES)
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim", "size", "window"), [(4, 2, 32, 16, 0), (3, 1, 48, 32, 70)])
def test_pages_of_another_type_are_read_as_torch_reads_them(  # noqa: PLR0917
    dtype: torch.dtype, paged: torch.dtype, heads: int, kv_heads: int, head_dim: int, size: int, window: int
) -> None:
    torch.manual_seed(2)
    config = shape(heads, kv_heads, head_dim, window, qk_norm=True)
    weights = layer(config)
    plain, fast = (kernels(config, dtype, size, compiled=compiled, paged=paged) for compiled in (False, True))
    rows = (torch.randn(200, (heads + 2 * kv_heads) * head_dim) * torch.rand(200, 1)).to(dtype)
    # A head of zeros has scale 0, which must not be divided by.
    rows[5] = 0
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-3
    for first, end in ((0, 150), (150, 151), (151, 200)):
        want = step(plain, config, weights, size, [(rows, first, end)])
        got = step(fast, config, weights, size, [(rows, first, end)])
        torch.testing.assert_close(got, want, atol=tolerance, rtol=tolerance)
        assert got.isfinite().all()


def test_int8_pages_are_near_to_exact_ones_and_not_the_same() -> None:
    torch.manual_seed(3)
    config = shape(4, 2, 64, 0)
    weights = layer(config)
    rows = torch.randn(180, 8 * 64)
    exact, rounded = (
        step(kernels(config, torch.float32, 16, compiled=True, paged=paged), config, weights, 16, [(rows, 0, 180)])
        for paged in (torch.float32, torch.int8)
    )
    error = (rounded - exact).norm() / exact.norm()
    assert 1e-4 < error < 2e-2


@pytest.mark.parametrize(("dtype", "paged"), [(torch.float32, None), (torch.bfloat16, None), *TYPES])
@pytest.mark.parametrize("window", [0, 50])
def test_a_row_is_the_same_to_the_last_bit_in_any_company(
    dtype: torch.dtype, paged: torch.dtype | None, window: int
) -> None:
    torch.manual_seed(1)
    config = shape(6, 2, 32, window)
    weights = layer(config)
    rows = torch.randn(180, 10 * 32).to(dtype)
    whole = step(kernels(config, dtype, 16, compiled=True, paged=paged), config, weights, 16, [(rows, 0, 180)])
    for chunk in (1, 7, 16, 64):
        target = kernels(config, dtype, 16, compiled=True, paged=paged)
        pieces = [step(target, config, weights, 16, [(rows, at, min(at + chunk, 180))]) for at in range(0, 180, chunk)]
        assert torch.equal(torch.cat(pieces), whole), chunk
    others = torch.randn(90, 10 * 32).to(dtype)
    target = kernels(config, dtype, 16, compiled=True, paged=paged)
    mixed = step(target, config, weights, 16, [(others, 0, 90), (rows, 0, 180), (others, 0, 3)])
    assert torch.equal(mixed[90:270], whole)
    team = step(
        kernels(config, dtype, 16, compiled=True, threads=2, paged=paged), config, weights, 16, [(rows, 0, 180)]
    )
    assert torch.equal(team, whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "threads"), [(1, 1), (5, 1), (3000, 2)])
def test_norms_and_gate_equal_torch(dtype: torch.dtype, rows: int, threads: int) -> None:
    torch.manual_seed(2)
    config = shape(2, 2, 16, 0)
    pair = [kernels(config, dtype, 16, compiled=False), kernels(config, dtype, 16, compiled=True, threads=threads)]
    embedded, added = torch.randn(rows, 48), torch.randn(rows, 48).to(dtype)
    weight, gate_up = torch.rand(48), (4 * torch.randn(rows, 160)).to(dtype)
    gate_up[0, :4] = torch.tensor([-200.0, -80.0, 80.0, 200.0])
    results = []
    for target in pair:
        none = np.zeros(0, np.int32)
        batch = Batch(none, none, none, np.zeros(1, np.int32), none, np.zeros((0, 1), np.int32), [])
        target.prepare(batch, rows)
        target.start(embedded)
        results.append(
            [target.norm(weight).clone(), target.add_norm(added, weight).clone(), target.gate(gate_up).clone()]
        )
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    for want, got in zip(*results, strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got, want, atol=tolerance, rtol=2 * tolerance)


def test_shapes_that_the_compiled_kernels_do_not_serve() -> None:
    good = shape(2, 2, 16, 0)
    assert CpuKernels.unfit(good, 16, CPU, torch.float32) is None
    assert CpuKernels.unfit(good, 8, CPU, torch.float32)
    assert CpuKernels.unfit(shape(2, 2, 24, 0), 16, CPU, torch.float32)
    assert CpuKernels.unfit(good, 16, torch.device("cuda:0"), torch.bfloat16)
