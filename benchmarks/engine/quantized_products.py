"""Time of products with quantized weights compared with bfloat16, with weights read from memory.

    python -m benchmarks.engine.quantized_products [--threads 2] [--seconds 1]

Calls cycle through copies of the matrix that together exceed the L3 cache many times over.
"""

import argparse
import itertools
from collections.abc import Callable
from functools import partial
from time import perf_counter

import torch
from torch import Tensor

from engine.quantization.scheme import Scheme, quantize
from engine.threads import set_threads
from engine.weights.linear import Linear, LinearFactory

SHAPES = ((4096, 768), (768, 4096), (8192, 2048), (2048, 8192))
KINDS: dict[str, Scheme | None] = {
    "bf16": None,
    "int8": Scheme(8),
    "int4/32": Scheme(4, 32),
    "int4/64": Scheme(4, 64),
    "int4/128": Scheme(4, 128),
}
_BITS = {"bf16": 16.0, "int8": 8.0, "int4/32": 5.0, "int4/64": 4.5, "int4/128": 4.25}


def copies(factory: LinearFactory, kind: str, weight: Tensor, megabytes: int) -> list[Linear]:
    scheme = KINDS[kind]
    count = max(1, int(megabytes * 2**20 / (weight.numel() * _BITS[kind] / 8)))
    if scheme is None:
        return [factory.make(weight, None) for _ in range(count)]
    quantized = quantize(weight.float(), scheme)
    return [factory.make(quantized, None) for _ in range(count)]


def best_us(calls: list[Callable[[], object]], seconds: float) -> float:
    """The median of rounds over all copies, in microseconds per call."""
    times: list[float] = []
    until = perf_counter() + seconds
    while perf_counter() < until or len(times) < 3:
        began = perf_counter()
        for call in calls:
            call()
        times.append((perf_counter() - began) / len(calls))
    return 1e6 * sorted(times)[len(times) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time products with quantized weights.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16, 128])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--megabytes", type=int, default=192, help="of all copies of a matrix")
    parser.add_argument("--shapes", type=int, default=len(SHAPES))
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    factory = LinearFactory(torch.device("cpu"), torch.bfloat16, arguments.threads)
    factory.compile()
    heads = " | ".join(f"{rows} rows µs" for rows in arguments.rows)
    print(f"| outputs × inputs | weights | {heads} | 1st: GB/s |")
    print("| --- | --- |" + " ---: |" * (len(arguments.rows) + 1))
    with torch.inference_mode():
        for (outputs, inputs), kind in itertools.product(SHAPES[: arguments.shapes], arguments.kinds):
            weight = torch.randn(outputs, inputs).bfloat16()
            linears = copies(factory, kind, weight, arguments.megabytes)
            times = []
            for rows in arguments.rows:
                x = torch.randn(rows, inputs).bfloat16()
                times.append(best_us([partial(one, x) for one in linears], arguments.seconds))
            rate = outputs * inputs * _BITS[kind] / 8 / times[0] / 1e3
            cells = " | ".join(f"{time:.0f}" for time in times)
            print(f"| {outputs} × {inputs} | {kind} | {cells} | {rate:.1f} |", flush=True)


if __name__ == "__main__":
    main()
