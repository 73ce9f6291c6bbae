"""The ways of running an engine that must not change what it says, and an engine that is run in one of them."""

import itertools
import random
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from config.model.settings import EngineSettings, KVSettings, Speculate
from config.model.table import Bytes
from engine.core.engine import Engine
from engine.lora.adapters import Adapter
from engine.messages import AddAdapter, Submit, TokenDelta
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Batch, Runner, Sampled
from engine.tensor_parallel.runner import load_runner
from engine.text.tokenizer import Tokenizer
from tests.parity.adapters import write_pair

VOCAB = 211
OUTPUTS = 64
FEW_OUTPUTS = 16
"""Where each token costs a whole prompt, or a row of the table of log-probabilities."""
GREEDY = SamplingParams(max_tokens=OUTPUTS, temperature=0, ignore_eos=True)
CHUNKS = (1, 7, 16, 1024)
Kind = Literal["int8", "int4"]
GROUP = 16
"""Of the weights of four bits that share a scale."""


SEEDS: dict[tuple[str, Kind | None], int] = {
    ("llama-biases", None): 1,
    ("qwen3-yarn", None): 1,
    ("phi3-longrope", "int4"): 1,
}
"""Of adapters, where the first ones make two tokens nearly as likely."""


class Cell(msgspec.Struct, frozen=True):
    """One way of running the engine."""

    chunk: int
    warm: bool
    """Ask everything twice: the second time the prefix cache answers."""
    preempted: Literal["never", "tight", "always"]
    """tight: the pool is too small for all. always: who has said a token is preempted, and computed again."""
    shuffled: bool
    drafted: bool
    """Right, wrong and partly right drafts come with the prompts, and the engine drafts for itself."""
    cancelled: bool
    """Beside each request runs a twin that is aborted somewhere on its way."""
    adapters: bool = False
    """Some ask for one adapter, some for another, some for none: see `asked`."""
    block_size: int = 16

    @property
    def outputs(self) -> int:
        return FEW_OUTPUTS if self.preempted == "always" else OUTPUTS


PREEMPTED: tuple[Literal["never", "tight", "always"], ...] = ("never", "tight", "always")
GRID = [
    Cell(chunk, warm, preempted, shuffled, drafted, cancelled, adapters)
    for adapters, chunk, warm, preempted, shuffled, drafted, cancelled in itertools.product(
        (False, True), CHUNKS, (False, True), PREEMPTED, *[(False, True)] * 3
    )
]
FALLBACK = [
    Cell(7, warm=True, preempted="tight", shuffled=True, drafted=False, cancelled=True, adapters=True, block_size=8),
    Cell(16, warm=False, preempted="always", shuffled=False, drafted=True, cancelled=False, block_size=8),
]
"""Blocks of eight are not served by the compiled kernels: this is plain torch."""


class Asked(msgspec.Struct, frozen=True):
    """What one of a cell's requests says."""

    prompt: list[int]
    adapter: str = ""


def prompts() -> list[list[int]]:
    rng = random.Random(0)
    shared = [rng.randrange(VOCAB) for _ in range(50)]
    return [
        [rng.randrange(VOCAB)],
        [rng.randrange(VOCAB) for _ in range(17)],
        [*shared, 5],
        [*shared, 6, *(rng.randrange(VOCAB) for _ in range(40))],
        [rng.randrange(VOCAB) for _ in range(32)],
    ]


def asked(adapters: bool) -> list[Asked]:
    """With adapters the prefix of fifty tokens is one adapter's, the other's and the model's own."""
    lines = prompts()
    if not adapters:
        return [Asked(prompt) for prompt in lines]
    return [*map(Asked, lines, ("a", "b", "a", "b", "")), Asked(lines[3])]


class Model:
    """A case's directory, loaded once for each block size, and two adapters for it."""

    def __init__(
        self, case: str, directory: Path, dtype: str, *, quantization: Kind | None = None, weights: Path | None = None
    ) -> None:
        """`weights`: what transformers is to load in its place; the same numbers in a form that it reads."""
        self.case = case
        self.directory = directory
        self.weights = weights or directory
        self.quantization = quantization
        self.tokenizer = Tokenizer.load(directory)
        self._settings = EngineSettings(
            model=directory,
            dtype=dtype,
            quantization=quantization,
            quantization_group=GROUP if quantization == "int4" else None,
        )
        self._runners: dict[int, Runner] = {}
        self._adapters: dict[int, list[Adapter]] = {}

    @cached_property
    def folders(self) -> dict[str, Path]:
        """Adapters that PEFT has written, by name."""
        return write_pair(
            self.case, self.weights, self.directory / "adapters", seed=SEEDS.get((self.case, self.quantization), 0)
        )

    def runner(self, block_size: int) -> Runner:
        if block_size not in self._runners:
            kv = KVSettings(memory=Bytes(2**22), block_size=block_size)
            self._runners[block_size] = load_runner(msgspec.structs.replace(self._settings, kv=kv))
        return self._runners[block_size]

    def adapters(self, block_size: int) -> list[Adapter]:
        if block_size not in self._adapters:
            read = self.runner(block_size).read_adapter
            self._adapters[block_size] = [
                Adapter(name, 1, folder, read(folder)) for name, folder in self.folders.items()
            ]
        return self._adapters[block_size]

    def close(self) -> None:
        for runner in self._runners.values():
            runner.close()


class Seen:
    """A runner as a cell sees it: with few blocks, and made to say what it is told to."""

    def __init__(self, runner: Runner, cell: Cell, told: list[list[int]] | None) -> None:
        """`told`: what follows each of `prompts()`, whatever the model would say."""
        self.total_blocks = runner.total_blocks
        if cell.preempted == "tight":
            # The longest sequence, and little more.
            longest = max(len(prompt) for prompt in prompts()) + OUTPUTS
            self.total_blocks = 1 + -(-longest // cell.block_size) + 4
        self._runner = runner
        self._told = {tuple(prompt): ids for prompt, ids in zip(prompts(), told or (), strict=False)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def execute(self, batch: Batch) -> Sampled:
        sampled = self._runner.execute(batch)
        if self._told:
            sampled.token_ids = [
                self._told[each.prompt_token_ids][len(each.output_token_ids)] for each in batch.samples
            ]
        return sampled


def drafts(expected: list[list[int]]) -> dict[int, list[int]]:
    return {0: expected[0][:33], 1: [*expected[1][:9], 0, *expected[1][10:]], 2: expected[3], 4: expected[4]}


def make_engine(model: Model, cell: Cell, told: list[list[int]] | None = None) -> Engine:
    settings = EngineSettings(
        model=model.directory,
        prefill_chunk=cell.chunk,
        prefix_cache=cell.warm,
        speculate=Speculate(ngram=2, tokens=4) if cell.drafted else None,
    )
    engine = Engine(Seen(model.runner(cell.block_size), cell, told), model.tokenizer, settings, seed=0)
    for adapter in model.adapters(cell.block_size) if cell.adapters else ():
        engine.accept(AddAdapter(adapter))
    return engine


def run(
    engine: Engine, cell: Cell, params: SamplingParams, drafted: dict[int, list[int]], *, again: bool = False
) -> list[list[TokenDelta]]:
    """Outputs of each of `asked(cell.adapters)`.

    `again`: last come, first asked; where the pool is too small for all, the cache still has the last ones.
    """
    rng = random.Random(f"{cell}")
    first_id = 100 if again else 0
    hits = engine.stats().prefix_hits_total
    requests = asked(cell.adapters)
    order = list(range(len(requests)))
    if cell.shuffled:
        rng.shuffle(order)
    if again:
        order.reverse()
    leaving: dict[int, int] = {}
    for index in order:
        submit = Submit(
            sequence_id=first_id + index,
            prompt_token_ids=tuple(requests[index].prompt),
            draft=tuple(drafted.get(index, ())),
            params=params,
            adapter=requests[index].adapter,
        )
        engine.submit(submit)
        if cell.cancelled:
            twin = first_id + index + 1000
            engine.submit(msgspec.structs.replace(submit, sequence_id=twin))
            leaving[twin] = rng.randrange(30)
    found: dict[int, list[TokenDelta]] = {first_id + index: [] for index in order}
    steps = 0
    while engine.has_work:
        for sequence_id in [each for each, step in leaving.items() if step == steps]:
            engine.abort(sequence_id)
        steps += 1
        for output in engine.step().deltas:
            if output.sequence_id in found:
                found[output.sequence_id].append(output)
            if cell.preempted == "always" and output.finish is None:
                engine._scheduler._preempt(engine._alive[output.sequence_id][0])
        engine.check_integrity()
    assert not again or engine.stats().prefix_hits_total > hits, "the cache was not warm"
    return [found[first_id + index] for index in range(len(requests))]


def check_books(engine: Engine, cell: Cell) -> None:
    stats = engine.stats()
    if not (cell.preempted == "tight" and cell.drafted):
        # A draft's blocks are taken when its sequence enters: where they are scarce, the next one waits instead.
        assert (stats.preemptions_total > 0) == (cell.preempted != "never")
    assert (stats.accepted_tokens_total > 0) == cell.drafted
    assert (stats.prefix_hits_total > 0) == cell.warm
    assert stats.free_blocks == stats.total_blocks
