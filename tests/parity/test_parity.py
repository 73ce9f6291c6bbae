"""Greedy ids equal transformers' over 64 tokens in float32, however the engine cuts, caches, preempts and orders."""

import itertools
import random
from pathlib import Path

import msgspec
import pytest

from config.settings import EngineSettings, KVSettings, Speculate
from config.table import Bytes
from engine.engine import Engine
from engine.messages import Submit
from engine.params import SamplingParams
from tests.parity import models

OUTPUTS = 64
GREEDY = SamplingParams(max_tokens=OUTPUTS, temperature=0, ignore_eos=True)
CHUNKS = (1, 7, 16, 1024)


class Cell(msgspec.Struct, frozen=True):
    """One way of running the engine."""

    chunk: int
    warm: bool
    """Ask everything twice: the second time the prefix cache answers."""
    tight: bool
    """A pool too small for all: sequences are preempted."""
    shuffled: bool
    drafted: bool
    """Right, wrong and partly right drafts come with the prompts, and the engine drafts for itself."""
    block_size: int = 16


GRID = [Cell(*values) for values in itertools.product(CHUNKS, *[(False, True)] * 4)]
FALLBACK = [
    Cell(7, warm=True, tight=True, shuffled=True, drafted=False, block_size=8),
    Cell(16, warm=False, tight=False, shuffled=False, drafted=True, block_size=8),
]
"""Blocks of eight are not served by the compiled kernels: this is plain torch."""


def prompts() -> list[list[int]]:
    rng = random.Random(0)
    shared = [rng.randrange(211) for _ in range(50)]
    return [
        [rng.randrange(211)],
        [rng.randrange(211) for _ in range(17)],
        [*shared, 5],
        [*shared, 6, *(rng.randrange(211) for _ in range(40))],
        [rng.randrange(211) for _ in range(32)],
    ]


@pytest.fixture(scope="session", params=models.CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[int]]]:
    """A model's directory and what transformers answers to `prompts()`."""
    directory = models.write_model(request.param, tmp_path_factory.mktemp("model"), shards="50KB")
    model = models.reference(directory)
    answers = []
    for prompt in prompts():
        ids, margin = models.greedy(model, prompt, OUTPUTS)
        assert margin > 5e-5, "a near tie proves nothing: choose other weights"
        answers.append(ids)
    return directory, answers


def load(directory: Path, cell: Cell) -> Engine:
    """A tight pool holds the longest sequence and little more."""
    settings = EngineSettings(
        model=directory,
        dtype="float32",
        kv=KVSettings(memory=Bytes(2**22), block_size=cell.block_size),
        prefill_chunk=cell.chunk,
        prefix_cache=cell.warm,
        speculate=Speculate(ngram=2, tokens=4) if cell.drafted else None,
    )
    if cell.tight:
        roomy = Engine.load(settings, "roomy")
        block_bytes = 2**22 // roomy.stats().total_blocks
        roomy.close()
        longest = max(len(prompt) for prompt in prompts()) + OUTPUTS
        blocks = 1 + -(-longest // cell.block_size) + 4
        kv = KVSettings(memory=Bytes(blocks * block_bytes), block_size=cell.block_size)
        settings = msgspec.structs.replace(settings, kv=kv)
    return Engine.load(settings, "parity")


def drafts(expected: list[list[int]]) -> dict[int, list[int]]:
    return {0: expected[0][:33], 1: [*expected[1][:9], 0, *expected[1][10:]], 2: expected[3], 4: expected[4]}


def answers(engine: Engine, order: list[int], first_id: int, drafts: dict[int, list[int]]) -> dict[int, list[int]]:
    asked = prompts()
    for index in order:
        prompt, draft = tuple(asked[index]), tuple(drafts.get(index, ()))
        engine.submit(Submit(request_id=first_id + index, prompt_token_ids=prompt, draft=draft, params=GREEDY))
    found: dict[int, list[int]] = {index: [] for index in order}
    while engine.has_work:
        for output in engine.step().outputs:
            found[output.request_id - first_id].extend(output.token_ids)
    return found


def check(case: tuple[Path, list[list[int]]], cell: Cell) -> None:
    directory, expected = case
    engine = load(directory, cell)
    order = list(range(len(expected)))
    if cell.shuffled:
        random.Random(cell.chunk).shuffle(order)
    for turn in range(2 if cell.warm else 1):
        found = answers(engine, order, 100 * turn, drafts(expected) if cell.drafted else {})
        assert [found[index] for index in range(len(expected))] == expected
    stats = engine.stats()
    if not (cell.tight and cell.drafted):
        # A draft's blocks are taken when its sequence enters: where they are scarce, the next one waits instead.
        assert (stats.preemptions_total > 0) == cell.tight
    assert (stats.accepted_tokens_total > 33 + OUTPUTS) == cell.drafted
    assert (stats.prefix_hits_total > 0) == cell.warm
    engine.check_integrity()
    assert stats.free_blocks == stats.total_blocks
    engine.close()


SAMPLED = random.Random(20).sample(GRID, 4)


@pytest.mark.parametrize("cell", [*SAMPLED, *FALLBACK], ids=str)
def test_sample_of_the_grid(case: tuple[Path, list[list[int]]], cell: Cell) -> None:
    check(case, cell)


@pytest.mark.parity_full
@pytest.mark.parametrize("cell", GRID, ids=str)
def test_whole_grid(case: tuple[Path, list[list[int]]], cell: Cell) -> None:
    check(case, cell)
