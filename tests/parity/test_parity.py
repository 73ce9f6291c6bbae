"""The grid: every architecture, however the engine cuts, caches, preempts, orders, drafts, cancels and adapts.

In float32 greedy ids equal transformers' over 64 tokens, and PEFT's where an adapter is asked for. In bfloat16 the
engine is told what to say, and its log-probabilities on the way are about as close to the truth as transformers' own
(see `BF16_TOLERANCE`).
"""

import itertools
import random
from collections.abc import Iterator

import msgspec
import pytest
import torch

from engine.kernels.simd import has_bfloat16_products
from engine.quantization.convert import quantize_model
from engine.quantization.scheme import scheme_of
from tests.parity import models
from tests.parity.grid import FALLBACK, GREEDY, GRID, GROUP, VOCAB, Cell, Model, check_books, drafts, make_engine, run
from tests.parity.quantized import expanded
from tests.parity.truth import Exact, Rounded

BF16_TOLERANCE = (1.0, 2.0)
"""Times transformers' own error in bfloat16, both against the same weights computed in float32: median and mean, and
maximum. Measured: medians of 0.54 to 0.92, means of 0.56 to 0.72, maxima of 0.28 to 1.2 times theirs. With adapters,
which PEFT computes in float32: medians of 0.63 to 0.86, means of 0.59 to 0.93, maxima of 0.49 to 1.8."""
BF16 = pytest.mark.skipif(not has_bfloat16_products(), reason="this processor does not compute in bfloat16")
SAMPLE = [
    each
    for adapters, count in ((False, 3), (True, 2))
    for each in random.Random(20).sample([cell for cell in GRID if cell.adapters == adapters], count)
]


# --- float32: the same ids ------------------------------------------------------------------------------------------
@pytest.fixture(scope="session", params=models.CASES)
def exact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exact]:
    directory = models.write_model(request.param, tmp_path_factory.mktemp("model"), shards="50KB")
    model = Model(request.param, directory, "float32")
    yield Exact(model)
    model.close()


@pytest.fixture(scope="session", params=itertools.product(models.CASES, ("int8", "int4")), ids="-".join)
def quantized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exact]:
    """Quantized on load; right is what the weights say that its integers stand for."""
    case, kind = request.param
    folder = tmp_path_factory.mktemp("model")
    directory = models.write_model(case, folder / "whole")
    quantize_model(directory, folder / "saved", scheme_of(kind, GROUP if kind == "int4" else None), lambda _: None)
    weights = expanded(folder / "saved", folder / "plain")
    model = Model(case, directory, "float32", quantization=kind, weights=weights)
    yield Exact(model)
    model.close()


def check_exact(exact: Exact, cell: Cell) -> None:
    expected = exact.answers(cell.adapters)
    engine = make_engine(exact.model, cell)
    params = msgspec.structs.replace(GREEDY, max_tokens=cell.outputs)
    for again in (False, True) if cell.warm else (False,):
        found = run(engine, cell, params, drafts(expected) if cell.drafted else {}, again=again)
        ids = [[token for output in outputs for token in output.token_ids] for outputs in found]
        assert ids == [answer[: cell.outputs] for answer in expected]
    check_books(engine, cell)


@pytest.mark.sample(48)
@pytest.mark.parametrize("cell", [*SAMPLE, *FALLBACK], ids=str)
def test_sample_of_the_grid(exact: Exact, cell: Cell) -> None:
    check_exact(exact, cell)


@pytest.mark.parity_full
@pytest.mark.parametrize("cell", GRID, ids=str)
def test_whole_grid_quantized(quantized: Exact, cell: Cell) -> None:
    check_exact(quantized, cell)


@pytest.mark.parity_full
@pytest.mark.parametrize("cell", GRID, ids=str)
def test_whole_grid(exact: Exact, cell: Cell) -> None:
    check_exact(exact, cell)


# --- bfloat16: the same distributions -------------------------------------------------------------------------------
@pytest.fixture(scope="session", params=models.CASES)
def rounded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rounded]:
    directory = models.write_model(request.param, tmp_path_factory.mktemp("model"), dtype=torch.bfloat16)
    model = Model(request.param, directory, "bfloat16")
    yield Rounded(model)
    model.close()


def check_rounded(rounded: Rounded, cell: Cell) -> None:
    tables = rounded.tables(cell.adapters)
    engine = make_engine(rounded.model, cell, rounded.told)
    params = msgspec.structs.replace(GREEDY, max_tokens=cell.outputs, logprobs=VOCAB)
    usual, worst = BF16_TOLERANCE
    allowed = torch.cat([errors[: cell.outputs] for errors in tables.errors])
    for again in (False, True) if cell.warm else (False,):
        found = run(engine, cell, params, drafts(rounded.told) if cell.drafted else {}, again=again)
        errors = []
        for outputs, table in zip(found, tables.truth, strict=True):
            lines = [each for output in outputs for each in output.logprobs]
            assert len(lines) == cell.outputs
            for each, line in zip(lines, table, strict=False):
                ours = torch.empty(VOCAB)
                ours[[token for token, _, _ in each.top]] = torch.tensor([value for _, value, _ in each.top])
                errors.append((ours - line).abs())
        error = torch.stack(errors)
        assert error.median() <= usual * allowed.median()
        if not rounded.routed:
            assert error.mean() <= usual * allowed.mean()
            assert error.max() <= worst * allowed.max()
    check_books(engine, cell)


@pytest.mark.sample(8)
@BF16
def test_sample_of_the_grid_in_bfloat16(rounded: Rounded, request: pytest.FixtureRequest) -> None:
    """One cell for each architecture, another for each."""
    check_rounded(rounded, random.Random(request.node.name).choice(GRID))


@BF16
@pytest.mark.parity_full
@pytest.mark.parametrize("cell", GRID, ids=str)
def test_whole_grid_in_bfloat16(rounded: Rounded, cell: Cell) -> None:
    check_rounded(rounded, cell)
