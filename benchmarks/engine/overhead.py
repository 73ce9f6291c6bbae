"""CPU time of a decode step outside of the model: planning, building the batch, sampling, reporting.

    python -m benchmarks.engine.overhead [--vocab 32000] [--rounds 5]

The model is the fake runner, whose own time is subtracted; the sampler works on random logits. Per number of streams:
the median step of the best round; then the least-squares line a + b · streams.
"""

import argparse
from collections.abc import Callable
from functools import partial
from random import Random
from statistics import median
from time import perf_counter

import numpy as np

from config.model.settings import EngineSettings
from engine.bench import machine
from engine.core.engine import Engine
from engine.messages import Submit
from engine.sampler.sampler import sample
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Batch, Sampled, SampleRow
from engine.testing.fake_runner import FakeRunner
from engine.text.tokenizer import Tokenizer
from engine.zoo.train import MODELS

_PROMPT, _OUTPUT = 64, 200


class TimedRunner(FakeRunner):
    """Measures its own time."""

    took = 0.0

    def execute(self, batch: Batch) -> Sampled:
        started = perf_counter()
        sampled = super().execute(batch)
        self.took = perf_counter() - started
        return sampled


def engine_us(streams: int, params: SamplingParams) -> float:
    """The median decode step without the runner's time."""
    model = MODELS / "small"
    runner = TimedRunner(total_blocks=64 * 20 + 1, block_size=16)
    engine = Engine(runner, Tokenizer.load(model), EngineSettings(model=model, max_running=streams))
    rng = Random(0)
    for sequence_id in range(streams):
        prompt = tuple(rng.randrange(500) for _ in range(_PROMPT))
        engine.submit(Submit(sequence_id=sequence_id, prompt_token_ids=prompt, params=params))
    taken = []
    while engine.has_work:
        started = perf_counter()
        report = engine.step()
        if len(report.outputs) == streams:
            taken.append(perf_counter() - started - runner.took)
    return 1e6 * median(taken[5:-5])


def sampler_us(streams: int, params: SamplingParams, vocab: int) -> float:
    """The median time for sampling a token for each row of logits."""
    logits = np.random.default_rng(0).standard_normal((streams, vocab), np.float32)
    rows = [
        SampleRow(row=row, params=params, seed=row, position=100, prompt_token_ids=(0,), output_token_ids=[1, 2])
        for row in range(streams)
    ]
    taken = []
    for _ in range(100):
        started = perf_counter()
        sample(logits, rows)
        taken.append(perf_counter() - started)
    return 1e6 * median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--vocab", type=int, default=32_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    arguments = parser.parse_args()
    greedy = SamplingParams(max_tokens=_OUTPUT, temperature=0, ignore_eos=True)
    drawn = SamplingParams(max_tokens=_OUTPUT, temperature=1, ignore_eos=True)
    kinds: dict[str, Callable[[int], float]] = {
        "plan, build, report": partial(engine_us, params=greedy),
        f"sampler, greedy, {arguments.vocab} logits": partial(sampler_us, params=greedy, vocab=arguments.vocab),
        f"sampler, temperature 1, {arguments.vocab} logits": partial(sampler_us, params=drawn, vocab=arguments.vocab),
    }
    best = {(kind, streams): float("inf") for kind in kinds for streams in arguments.streams}
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", flush=True)
        for kind, measured in kinds.items():
            for streams in arguments.streams:
                best[kind, streams] = min(best[kind, streams], measured(streams))
    print(f"{machine()}; µs a step\n\n| streams | {' | '.join(map(str, arguments.streams))} | fits |")
    print("| --- |" + " ---: |" * len(arguments.streams) + " --- |")
    for kind in kinds:
        times = [best[kind, streams] for streams in arguments.streams]
        slope, start = np.polyfit(arguments.streams, times, 1)
        print(f"| {kind} | {' | '.join(f'{each:.0f}' for each in times)} | {start:.0f} + {slope:.1f} a stream |")


if __name__ == "__main__":
    main()
