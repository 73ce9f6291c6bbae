"""Drives a runner by hand: sequences with block tables of their own, fed in whatever pieces a test wants."""

import numpy as np

from engine.lora.adapters import AdapterRows
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Batch, Runner, Sampled, SampleRow

GREEDY = SamplingParams(max_tokens=1024, temperature=0)


class Sequence:
    def __init__(self, prompt: list[int], blocks: list[int], params: SamplingParams = GREEDY, seed: int = 0) -> None:
        self.tokens = list(prompt)
        self.prompt = tuple(prompt)
        self.blocks = blocks
        self.params = params
        self.seed = seed
        self.computed = 0
        self.margins: list[float] = []

    @property
    def output(self) -> list[int]:
        return self.tokens[len(self.prompt) :]


def step(runner: Runner, work: list[tuple[Sequence, int]], adapters: tuple[AdapterRows, ...] = ()) -> Sampled:
    """Compute the next n tokens of each sequence; a sequence whose known tokens are all computed gets one more."""
    size = runner.block_size
    token_ids, positions, slots, starts, contexts, samples, sampled = [], [], [], [0], [], [], []
    for sequence, count in work:
        first, end = sequence.computed, sequence.computed + count
        token_ids += sequence.tokens[first:end]
        positions += range(first, end)
        slots += [sequence.blocks[at // size] * size + at % size for at in range(first, end)]
        starts.append(len(token_ids))
        contexts.append(end)
        if end == len(sequence.tokens):
            samples.append(
                SampleRow(
                    row=starts[-1] - 1,
                    params=sequence.params,
                    seed=sequence.seed,
                    position=end,
                    prompt_token_ids=sequence.prompt,
                    output_token_ids=sequence.output,
                )
            )
            sampled.append(sequence)
        sequence.computed = end
    widest = max(len(sequence.blocks) for sequence, _ in work)
    tables = np.zeros((len(work), widest), np.int32)
    for index, (sequence, _) in enumerate(work):
        tables[index, : len(sequence.blocks)] = sequence.blocks
    result = runner.execute(
        Batch(
            token_ids=np.array(token_ids, np.int64),
            positions=np.array(positions, np.int64),
            slots=np.array(slots, np.int64),
            query_starts=np.array(starts, np.int32),
            context_lens=np.array(contexts, np.int32),
            block_tables=tables,
            samples=samples,
            adapters=adapters,
        )
    )
    for sequence, token, margin in zip(sampled, result.token_ids, result.margins, strict=True):
        sequence.tokens.append(token)
        sequence.margins.append(margin)
    return result


def run(runner: Runner, sequences: list[Sequence], outputs: int, chunk: int) -> None:
    """Until every sequence has `outputs` new tokens: at most `chunk` tokens of each a step, all in one batch."""
    while True:
        work = [
            (sequence, min(chunk, len(sequence.tokens) - sequence.computed))
            for sequence in sequences
            if len(sequence.output) < outputs
        ]
        if not work:
            return
        step(runner, work)
