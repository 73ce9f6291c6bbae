"""Lower bound for a workload's time on this machine, from reading the weights and computing the products.

A decode step reads every weight once and multiplies it with every row; prefill multiplies. The bound of a step is the
larger of bytes / bandwidth and operations / product rate at that number of rows, both measured here with torch's own
reduction and products, on as many threads as the engines get. Attention, norms and sampling are not included.
"""

import json
from pathlib import Path
from time import perf_counter

import msgspec
import torch

from benchmarks.engine.workloads import BenchRequest
from engine.kernels.arena import huge_zeros

_ROWS = (16, 256)
_READ_FLOATS = 1 << 28


class Machine(msgspec.Struct, frozen=True):
    """Measured rates."""

    read_bytes_per_s: float
    operations_per_s: dict[str, float]
    """By rows of a bf16 product; keys are strings, for JSON."""


class Weights(msgspec.Struct, frozen=True):
    """Parameters that a step uses."""

    parameters: int
    streamed: int
    """All but an embedding that is only used for lookups."""

    @property
    def streamed_bytes(self) -> int:
        return 2 * self.streamed


def measure(threads: int) -> Machine:
    torch.set_num_threads(threads)
    numbers = huge_zeros((_READ_FLOATS,), torch.float32).fill_(1)
    read = 4 * numbers.numel() / _best(numbers.sum, 5)
    rates = {}
    for rows in _ROWS:
        weight = torch.randn(4096, 1024).to(torch.bfloat16)
        x = torch.randn(rows, 1024).to(torch.bfloat16)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)  # noqa: SLF001
        run = lambda x=x, packed=packed: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")  # noqa: E731, SLF001
        rates[str(rows)] = 2 * rows * 4096 * 1024 / _best(run, 200)
    return Machine(read_bytes_per_s=read, operations_per_s=rates)


def _best(run: object, times: int) -> float:
    best = float("inf")
    for _ in range(times):
        started = perf_counter()
        run()  # type: ignore[operator]
        best = min(best, perf_counter() - started)
    return best


def weights_of(directory: Path) -> Weights:
    with (directory / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    sizes = {}
    for name, entry in header.items():
        if name != "__metadata__":
            sizes[name] = (entry["data_offsets"][1] - entry["data_offsets"][0]) // 2
    looked_up = sizes["model.embed_tokens.weight"] if "lm_head.weight" in sizes else 0
    return Weights(sum(sizes.values()), sum(sizes.values()) - looked_up)


def floor_tokens_per_s(requests: list[BenchRequest], machine: Machine, weights: Weights, *, shared: int = 0) -> float:
    """Output tokens per second at the lower bound; `shared`: prompt tokens that all requests have in common."""
    prompt = sum(len(it.prompt) for it in requests) - shared * (len(requests) - 1)
    body = 2 * weights.streamed
    seconds = max(prompt * body / machine.operations_per_s["256"], weights.streamed_bytes / machine.read_bytes_per_s)
    for step in range(1, max(it.output_tokens for it in requests)):
        rows = sum(it.output_tokens > step for it in requests)
        seconds += max(weights.streamed_bytes / machine.read_bytes_per_s, rows * body / machine.operations_per_s["16"])
    return sum(it.output_tokens for it in requests) / seconds
