"""Cost of `batch_invariant` in plain torch on the CPU, compared with compiled kernels, which are always invariant.

    python -m benchmarks.engine.make_model 15m /tmp/llama-15m
    python -m benchmarks.engine.invariance /tmp/llama-15m [--threads 1] [--rounds 3]

Greedy, end tokens ignored, 128 tokens in and 32 out; medians of rounds that interleave the variants.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter
from typing import Any
from unittest import mock

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine import torch_runner
from engine.bench import machine
from engine.core.engine import Engine
from engine.forward.cpu import CpuKernels
from engine.messages import Submit
from engine.sampling.params import SamplingParams
from engine.weights.linear import LinearFactory

STREAMS = (1, 16)
PROMPT, OUTPUT = 128, 32


class Plain(LinearFactory):
    """torch's products, as on other devices."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.own = False


def load(settings: EngineSettings, *, compiled: bool) -> Engine:
    if compiled:
        return Engine.load(settings, "bench")
    plain = mock.patch.object(torch_runner, "LinearFactory", Plain)
    with plain, mock.patch.object(CpuKernels, "unfit", staticmethod(lambda *_: "plain")):
        return Engine.load(settings, "bench")


def run(engine: Engine, streams: int, numbers: Callable[[], int]) -> tuple[float, float]:
    """(ms until every stream has its first token, ms per step afterwards)."""
    rng = Random(streams)
    params = SamplingParams(max_tokens=OUTPUT, temperature=0, ignore_eos=True)
    for _ in range(streams):
        prompt = tuple(rng.randrange(1000) for _ in range(PROMPT))
        engine.submit(Submit(sequence_id=numbers(), prompt_token_ids=prompt, params=params))
    started = perf_counter()
    waiting, steps, first = streams, 0, 0.0
    while engine.has_work:
        outputs = engine.step().outputs
        steps += not waiting
        if waiting:
            waiting = streams - len(outputs)
            first = perf_counter()
    return (first - started) * 1e3, (perf_counter() - first) * 1e3 / max(steps, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="what batch_invariant costs")
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    # No prefix cache, and the prompts of all streams fit into one step.
    plain = {
        "model": arguments.model,
        "threads": arguments.threads,
        "prefix_cache": False,
        "max_step_tokens": max(STREAMS) * PROMPT,
        "kv": KVSettings(memory=Bytes(2**28)),
    }
    kinds = {
        "compiled kernels": load(EngineSettings(**plain), compiled=True),
        "plain torch": load(EngineSettings(**plain), compiled=False),
        "plain torch, batch_invariant": load(EngineSettings(**plain, batch_invariant=True), compiled=False),
    }
    request_ids = iter(range(1_000_000))
    results: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for number in range(arguments.rounds + 1):
        for name, engine in kinds.items():
            for streams in STREAMS:
                result = run(engine, streams, request_ids.__next__)
                if number:  # the first round is a warm-up
                    results.setdefault((name, streams), []).append(result)
    print(f"{arguments.model}, {arguments.threads} thread(s), {machine()}\n")
    print("| | " + " | ".join(f"{streams} × {PROMPT} in, ms | step of {streams}, ms" for streams in STREAMS) + " |")
    print("| --- |" + " ---: | ---: |" * len(STREAMS))
    for name in kinds:
        cells = [f"{median(each):.1f}" for streams in STREAMS for each in zip(*results[name, streams], strict=True)]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
