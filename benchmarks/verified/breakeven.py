"""Up to which batch size drafts pay: lockstep rounds on two engines with an imposed acceptance rate.

The large engine's own answers are known from a first run; a draft is the continuation of them, each token corrupted
with a given probability. The small engine generates as many tokens of its own, and its time is charged in full, as if
the engines shared the cores and never overlapped. So any two models work, even with random weights; only costs are
measured.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from random import Random
from time import perf_counter

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.core.engine import Engine
from engine.messages import ExpectTokens, Submit
from engine.sampling.params import SamplingParams

_PROMPT = 64
_OUTPUT = 96


class _Pair:
    def __init__(self, small: Path, large: Path, threads: int) -> None:
        def load(name: str, model: Path, *, cache: bool) -> Engine:
            settings = EngineSettings(
                model=model,
                threads=threads,
                max_running=128,
                max_step_tokens=8192,
                prefix_cache=cache,
                kv=KVSettings(memory=Bytes(2**30)),
            )
            return Engine.load(settings, name)

        # The small engine caches its prompts from round to round; the large one must not cache its own answers.
        self.small, self.large = load("small", small, cache=True), load("large", large, cache=False)
        self._numbers = iter(range(1 << 40))
        self.vocab = min(self.small.limits.vocab_size, self.large.limits.vocab_size)

    def submit(self, engine: Engine, prompt: Sequence[int], tokens: int, draft: Sequence[int] = ()) -> int:
        number = next(self._numbers)
        params = SamplingParams(max_tokens=tokens, temperature=0, ignore_eos=True)
        engine.submit(Submit(sequence_id=number, prompt_token_ids=tuple(prompt), params=params, draft=tuple(draft)))
        return number

    def run(self, engine: Engine, prompts: Sequence[Sequence[int]], tokens: int) -> tuple[float, list[list[int]]]:
        """(seconds, generated tokens per prompt)."""
        began = perf_counter()
        generated: dict[int, list[int]] = {self.submit(engine, prompt, tokens): [] for prompt in prompts}
        while engine.has_work:
            for output in engine.step().deltas:
                generated[output.sequence_id] += output.token_ids
        return perf_counter() - began, list(generated.values())

    def verified(
        self,
        prompts: Sequence[Sequence[int]],
        answers: Sequence[Sequence[int]],
        length: int,
        chance: float,
        rng: Random,
    ) -> float:
        """Seconds of both engines together."""

        def draft(index: int, start: int) -> list[int]:
            right = answers[index][start : start + length]
            return [token if rng.random() < chance else (token + 1) % self.vocab for token in right]

        took, _ = self.run(self.small, prompts, length)
        began = perf_counter()
        numbers = [self.submit(self.large, prompt, _OUTPUT, draft(i, 0)) for i, prompt in enumerate(prompts)]
        index_of = {number: index for index, number in enumerate(numbers)}
        generated = [0] * len(prompts)
        while self.large.has_work:
            for output in self.large.step().deltas:
                generated[index_of[output.sequence_id]] += len(output.token_ids)
            behind = [index for index in range(len(prompts)) if 0 < generated[index] < _OUTPUT - 1]
            if behind:
                took += perf_counter() - began
                took += self.run(self.small, [[*prompts[i], *answers[i][: generated[i]]] for i in behind], length)[0]
                began = perf_counter()
                for index in behind:
                    self.large.expect(
                        ExpectTokens(numbers[index], generated[index], tuple(draft(index, generated[index])))
                    )
        return took + perf_counter() - began


def report(
    small: Path,
    large: Path,
    batches: Sequence[int],
    lengths: Sequence[int],
    chances: Sequence[float],
    *,
    threads: int,
    rounds: int,
) -> str:
    """A Markdown table of speed relative to the large engine alone; medians of interleaved rounds."""
    pair = _Pair(small, large, threads)
    lines = [
        "| batch | the small one alone | "
        + " | ".join(f"{k} at {chance:.0%}" for k in lengths for chance in chances)
        + " |",
        "| ---: | ---: |" + " ---: |" * (len(lengths) * len(chances)),
    ]
    rng = Random(3)
    for batch in batches:
        ratios: dict[tuple[int, float], list[float]] = {(k, chance): [] for k in lengths for chance in chances}
        cheaper = []
        for _ in range(rounds):
            for (length, chance), speedups in ratios.items():
                prompts = [[rng.randrange(pair.vocab) for _ in range(_PROMPT)] for _ in range(batch)]
                alone, answers = pair.run(pair.large, prompts, _OUTPUT)
                speedups.append(alone / pair.verified(prompts, answers, length, chance, rng))
            cheaper.append(pair.run(pair.small, prompts, _OUTPUT)[0] / alone)
        cells = " | ".join(f"{statistics.median(speedups):.2f}" for speedups in ratios.values())
        lines.append(f"| {batch} | {statistics.median(cheaper):.0%} | {cells} |")
    return "\n".join(lines)
