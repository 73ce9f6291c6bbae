"""The grid: every architecture, however the engine cuts, caches, preempts, orders, drafts and cancels.

In float32 greedy ids equal transformers' over 64 tokens. In bfloat16 the engine is told what to say, and its
log-probabilities on the way are about as close to the truth as transformers' own (see `BF16_TOLERANCE`).
"""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import torch
from transformers import PreTrainedModel

from config.settings import EngineSettings, KVSettings, Speculate
from config.table import Bytes
from engine.engine import Engine
from engine.kernels.simd import has_bfloat16_products
from engine.messages import Submit, TokenOutput
from engine.quantization.convert import quantize_model
from engine.quantization.scheme import scheme_of
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Batch, Runner, Sampled
from engine.text.tokenizer import Tokenizer
from engine.torch_runner import load_runner
from tests.parity import models
from tests.parity.quantized import expanded

VOCAB = 211
OUTPUTS = 64
FEW_OUTPUTS = 16
"""Where each token costs a whole prompt, or a row of the table of log-probabilities."""
GREEDY = SamplingParams(max_tokens=OUTPUTS, temperature=0, ignore_eos=True)
CHUNKS = (1, 7, 16, 1024)
BF16_TOLERANCE = (1.0, 2.0)
"""Times transformers' own error in bfloat16, both against the same weights computed in float32: median and mean, and
maximum. Measured: medians of 0.54 to 0.92, means of 0.56 to 0.72, maxima of 0.28 to 1.2 times theirs."""
ROUTED = ("mixtral", "qwen3-moe")
"""Here a rounding can send a token to another expert: such a position is wholly off, ours or theirs. Medians count."""
BF16 = pytest.mark.skipif(not has_bfloat16_products(), reason="this processor does not compute in bfloat16")


Kind = Literal["int8", "int4"]
GROUP = 16
"""Of the weights of four bits that share a scale."""


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
    block_size: int = 16

    @property
    def outputs(self) -> int:
        return FEW_OUTPUTS if self.preempted == "always" else OUTPUTS


PREEMPTED: tuple[Literal["never", "tight", "always"], ...] = ("never", "tight", "always")
GRID = [
    Cell(chunk, warm, preempted, shuffled, drafted, cancelled)
    for chunk, warm, preempted, shuffled, drafted, cancelled in itertools.product(
        CHUNKS, (False, True), PREEMPTED, *[(False, True)] * 3
    )
]
FALLBACK = [
    Cell(7, warm=True, preempted="tight", shuffled=True, drafted=False, cancelled=True, block_size=8),
    Cell(16, warm=False, preempted="always", shuffled=False, drafted=True, cancelled=False, block_size=8),
]
"""Blocks of eight are not served by the compiled kernels: this is plain torch."""


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


class Model:
    """A case's directory, loaded once for each block size."""

    def __init__(self, directory: Path, dtype: str, quantization: Kind | None = None) -> None:
        self.directory = directory
        self.tokenizer = Tokenizer.load(directory)
        self._settings = EngineSettings(
            model=directory,
            dtype=dtype,
            quantization=quantization,
            quantization_group=GROUP if quantization == "int4" else None,
        )
        self._runners: dict[int, Runner] = {}

    def runner(self, block_size: int) -> Runner:
        if block_size not in self._runners:
            kv = KVSettings(memory=Bytes(2**22), block_size=block_size)
            self._runners[block_size] = load_runner(msgspec.structs.replace(self._settings, kv=kv))
        return self._runners[block_size]

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
    return Engine(Seen(model.runner(cell.block_size), cell, told), model.tokenizer, settings, seed=0)


def run(
    engine: Engine, cell: Cell, params: SamplingParams, first_id: int, drafted: dict[int, list[int]]
) -> list[list[TokenOutput]]:
    """Outputs of each of `prompts()`."""
    rng = random.Random(f"{first_id} {cell}")
    asked = prompts()
    order = list(range(len(asked)))
    if cell.shuffled:
        rng.shuffle(order)
    leaving: dict[int, int] = {}
    for index in order:
        prompt, draft = tuple(asked[index]), tuple(drafted.get(index, ()))
        engine.submit(Submit(request_id=first_id + index, prompt_token_ids=prompt, draft=draft, params=params))
        if cell.cancelled:
            twin = first_id + index + 1000
            engine.submit(Submit(request_id=twin, prompt_token_ids=prompt, draft=draft, params=params))
            leaving[twin] = rng.randrange(30)
    found: dict[int, list[TokenOutput]] = {first_id + index: [] for index in order}
    steps = 0
    while engine.has_work:
        for request_id in [each for each, step in leaving.items() if step == steps]:
            engine.abort(request_id)
        steps += 1
        for output in engine.step().outputs:
            if output.request_id in found:
                found[output.request_id].append(output)
            if cell.preempted == "always" and output.finish is None:
                engine._scheduler._preempt(engine._alive[output.request_id][0])
        engine.check_integrity()
    return [found[first_id + index] for index in range(len(asked))]


def check_books(engine: Engine, cell: Cell) -> None:
    stats = engine.stats()
    if not (cell.preempted == "tight" and cell.drafted):
        # A draft's blocks are taken when its sequence enters: where they are scarce, the next one waits instead.
        assert (stats.preemptions_total > 0) == (cell.preempted != "never")
    assert (stats.accepted_tokens_total > 0) == cell.drafted
    assert (stats.prefix_hits_total > 0) == cell.warm
    assert stats.free_blocks == stats.total_blocks


# --- float32: the same ids ------------------------------------------------------------------------------------------
@pytest.fixture(scope="session", params=models.CASES)
def exact(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Model, list[list[int]]]]:
    """A model and what transformers answers to `prompts()`."""
    directory = models.write_model(request.param, tmp_path_factory.mktemp("model"), shards="50KB")
    model = Model(directory, "float32")
    yield model, said_by(models.reference(directory))
    model.close()


@pytest.fixture(scope="session", params=itertools.product(models.CASES, ("int8", "int4")), ids="-".join)
def quantized(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Model, list[list[int]]]]:
    """A model quantized on load, and what transformers answers with the weights that its integers stand for."""
    case, kind = request.param
    folder = tmp_path_factory.mktemp("model")
    directory = models.write_model(case, folder / "whole")
    quantize_model(directory, folder / "saved", scheme_of(kind, GROUP if kind == "int4" else None), lambda _: None)
    model = Model(directory, "float32", kind)
    yield model, said_by(models.reference(expanded(folder / "saved", folder / "plain")))
    model.close()


def said_by(reference: PreTrainedModel) -> list[list[int]]:
    answers = []
    for prompt in prompts():
        ids, margin = models.greedy(reference, prompt, OUTPUTS)
        assert margin > 5e-5, "a near tie proves nothing: choose other weights"
        answers.append(ids)
    return answers


def check_exact(exact: tuple[Model, list[list[int]]], cell: Cell) -> None:
    model, expected = exact
    engine = make_engine(model, cell)
    params = msgspec.structs.replace(GREEDY, max_tokens=cell.outputs)
    for turn in range(2 if cell.warm else 1):
        found = run(engine, cell, params, 100 * turn, drafts(expected) if cell.drafted else {})
        ids = [[token for output in outputs for token in output.token_ids] for outputs in found]
        assert ids == [answer[: cell.outputs] for answer in expected]
    check_books(engine, cell)


@pytest.mark.parametrize("cell", [*random.Random(20).sample(GRID, 4), *FALLBACK], ids=str)
def test_sample_of_the_grid(exact: tuple[Model, list[list[int]]], cell: Cell) -> None:
    check_exact(exact, cell)


@pytest.mark.parity_full
@pytest.mark.parametrize("cell", GRID, ids=str)
def test_whole_grid_quantized(quantized: tuple[Model, list[list[int]]], cell: Cell) -> None:
    check_exact(quantized, cell)


@pytest.mark.parity_full
@pytest.mark.parametrize("cell", GRID, ids=str)
def test_whole_grid(exact: tuple[Model, list[list[int]]], cell: Cell) -> None:
    check_exact(exact, cell)


# --- bfloat16: the same distributions -------------------------------------------------------------------------------
class Truth(msgspec.Struct):
    """Log-probabilities [outputs, vocab] behind each of `prompts()`."""

    ids: list[list[int]]
    tables: list[torch.Tensor]
    errors: list[torch.Tensor]
    """Transformers' own, in bfloat16."""
    routed: bool


@pytest.fixture(scope="session", params=models.CASES)
def rounded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Model, Truth]]:
    directory = models.write_model(request.param, tmp_path_factory.mktemp("model"), dtype=torch.bfloat16)
    rng = random.Random(request.param)
    # Any tokens will do: they are told.
    told = [[rng.randrange(VOCAB) for _ in range(OUTPUTS)] for _ in prompts()]
    tables = []
    for dtype in (torch.float32, torch.bfloat16):
        reference = models.reference(directory, dtype)
        with torch.inference_mode():
            tables.append(
                [
                    reference(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
                    for prompt, ids in zip(prompts(), told, strict=True)
                ]
            )
    errors = [(theirs - truth).abs() for theirs, truth in zip(*reversed(tables), strict=True)]
    model = Model(directory, "bfloat16")
    yield model, Truth(told, tables[0], errors, request.param in ROUTED)
    model.close()


def check_rounded(rounded: tuple[Model, Truth], cell: Cell) -> None:
    model, truth = rounded
    engine = make_engine(model, cell, truth.ids)
    params = msgspec.structs.replace(GREEDY, max_tokens=cell.outputs, logprobs=VOCAB)
    usual, worst = BF16_TOLERANCE
    allowed = torch.cat([errors[: cell.outputs] for errors in truth.errors])
    for turn in range(2 if cell.warm else 1):
        found = run(engine, cell, params, 100 * turn, drafts(truth.ids) if cell.drafted else {})
        errors = []
        for outputs, table in zip(found, truth.tables, strict=True):
            lines = [each for output in outputs for each in output.logprobs]
            assert len(lines) == cell.outputs
            for each, line in zip(lines, table, strict=False):
                ours = torch.empty(VOCAB)
                ours[[token for token, _, _ in each.top]] = torch.tensor([value for _, value, _ in each.top])
                errors.append((ours - line).abs())
        error = torch.stack(errors)
        assert error.median() <= usual * allowed.median()
        if not truth.routed:
            assert error.mean() <= usual * allowed.mean()
            assert error.max() <= worst * allowed.max()
    check_books(engine, cell)


@BF16
def test_sample_of_the_grid_in_bfloat16(rounded: tuple[Model, Truth], request: pytest.FixtureRequest) -> None:
    """One cell for each architecture, another for each."""
    check_rounded(rounded, random.Random(request.node.name).choice(GRID))


@BF16
@pytest.mark.parity_full
@pytest.mark.parametrize("cell", GRID, ids=str)
def test_whole_grid_in_bfloat16(rounded: tuple[Model, Truth], cell: Cell) -> None:
    check_rounded(rounded, cell)
