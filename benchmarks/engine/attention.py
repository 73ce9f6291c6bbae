"""Time of one layer's attention with KV pages of each dtype: minimum of many calls on one thread.

    python -m benchmarks.engine.attention

Twelve query heads and four KV heads of 64, blocks of 16; sixteen sequences decode at 1024 tokens, or one computes a
prefill chunk of 256 that ends there. Pages are in random order, as after some time of serving.
"""

import argparse
from time import perf_counter

import numpy as np
import torch

from engine.forward.cpu import CpuKernels
from engine.forward.rope import rotations
from engine.memory.kv_pool import KvPool
from engine.memory.kv_sizing import kv_token_bytes
from engine.model.model_config import ModelConfig
from engine.model.rope_config import Rope
from engine.scheduling.batch import Batch
from engine.weights.decoder_weights import LayerWeights
from engine.weights.mlp import Dense

_CONTEXT = 1024
_BLOCK = 16
_SHAPE = ModelConfig(
    architecture="benchmark",
    vocab_size=16,
    hidden_size=768,
    intermediate_size=2048,
    layers=1,
    heads=12,
    kv_heads=4,
    head_dim=64,
    rms_eps=1e-5,
    max_positions=_CONTEXT,
    rope=Rope(),
    rotary_dim=64,
    query_scale=0.125,
    tied_head=None,
    windows=(0,),
)


def best_ms(paged: torch.dtype, sequences: int, new: int, calls: int) -> float:
    blocks = sequences * _CONTEXT // _BLOCK + 1
    memory = kv_token_bytes(_SHAPE, paged.itemsize) * _BLOCK * blocks
    cpu = torch.device("cpu")
    pool = KvPool(_SHAPE, memory_bytes=memory, block_size=_BLOCK, dtype=paged, device=cpu, transposed_keys=True)
    kernels = CpuKernels(
        _SHAPE, pool, rotations(_SHAPE, _CONTEXT), dtype=torch.bfloat16, max_rows=max(sequences, new), threads=1
    )
    tables = np.random.default_rng(0).permutation(np.arange(1, blocks)).reshape(sequences, -1).astype(np.int32)
    positions = np.tile(np.arange(_CONTEXT - new, _CONTEXT), sequences)
    owners = np.repeat(np.arange(sequences), new)
    batch = Batch(
        token_ids=np.zeros(len(positions), np.int64),
        positions=positions,
        slots=tables[owners, positions // _BLOCK].astype(np.int64) * _BLOCK + positions % _BLOCK,
        query_starts=np.arange(sequences + 1, dtype=np.int32) * new,
        context_lens=np.full(sequences, _CONTEXT, np.int32),
        block_tables=tables,
        samples=[],
    )
    rows = torch.randn(len(positions), 20 * 64).bfloat16()
    unused, product = torch.empty(0), torch.nn.Identity()
    layer = LayerWeights(unused, product, None, None, product, None, unused, Dense(product, product), None)
    best = float("inf")
    kernels.prepare(batch, len(positions))
    kernels.start(torch.zeros(len(positions), _SHAPE.hidden_size))
    for _ in range(calls if new == 1 else -(-calls // 4)):
        began = perf_counter()
        kernels.attend(0, layer, rows)
        best = min(best, perf_counter() - began)
    return 1e3 * best


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine.attention")
    parser.add_argument("--calls", type=int, default=200, help="of which the best counts; a quarter for the chunk")
    calls = parser.parse_args().calls
    print("| pages | bytes a token | 16 x 1024, ms (GB/s) | chunk of 256 at 1024, ms |\n| --- | ---: | ---: | ---: |")
    for paged in (torch.float32, torch.bfloat16, torch.int8):
        token = kv_token_bytes(_SHAPE, paged.itemsize)
        decode, prefill = best_ms(paged, 16, 1, calls), best_ms(paged, 1, 256, calls)
        speed = 16 * _CONTEXT * token / decode / 1e6
        print(f"| {str(paged).removeprefix('torch.')} | {token} | {decode:.2f} ({speed:.1f}) | {prefill:.1f} |")


if __name__ == "__main__":
    main()
