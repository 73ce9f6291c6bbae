from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from config.model.settings import EngineSettings, KVSettings
from config.model.table import Bytes
from engine.forward.decoder import Decoder
from engine.forward.graphs import GraphDecoder
from engine.gpu.graph_sizes import captured_sizes, fitting_size
from engine.lora.adapters import AdapterRows
from engine.scheduling.batch import Batch, SampleRow, blank_batch, only_decodes
from engine.torch_runner import TorchRunner
from tests.engine.conformance import RunnerConformance
from tests.engine.driving import adapter, make_engine, run
from tests.parity import models
from tests.parity.driver import GREEDY
from tests.parity.recording import Recording


@given(largest=st.integers(1, 600), sequences=st.integers(1, 700))
def test_every_batch_up_to_the_largest_has_a_size_that_is_not_much_larger(largest: int, sequences: int) -> None:
    sizes = captured_sizes(largest)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] == largest
    found = fitting_size(sizes, sequences)
    if sequences > largest:
        assert found is None
    else:
        assert found is not None
        assert sequences <= found < max(2 * sequences, sequences + 16)
        assert not [size for size in sizes if sequences <= size < found]


def sampled(batch: Batch, rows: range) -> Batch:
    batch.samples = [SampleRow(row, GREEDY, 0, 1, (0,), []) for row in rows]
    return batch


def test_only_steps_in_which_every_sequence_decodes_are_replayed() -> None:
    assert only_decodes(sampled(blank_batch([1] * 3, 1), range(3)))
    assert not only_decodes(sampled(blank_batch([1] * 3, 1), range(2))), "a prefill chunk of one token samples nothing"
    prefill = sampled(blank_batch([1] * 2, 1), range(2))
    prefill.query_starts = np.array([0, 2], np.int32)
    prefill.context_lens = np.ones(1, np.int32)
    assert not only_decodes(prefill)


class _Adder(Decoder):
    """Ten times each id plus the number of prepared rows; logits are twice that."""

    def __init__(self) -> None:
        self.prepared: list[int] = []
        self.eager = 0

    def prepare(self, batch: Batch, rows: int) -> None:
        self.prepared.append(rows)

    def layers(self, ids: torch.Tensor) -> torch.Tensor:
        return (10 * ids + self.prepared[-1]).unsqueeze(1)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    def forward(self, batch: Batch, ids: torch.Tensor) -> torch.Tensor:
        self.eager += 1
        return torch.full((len(batch.samples), 1), -1)


def test_steps_with_adapters_are_not_replayed() -> None:
    decoder = _Adder()
    graphs = GraphDecoder(decoder, Recording(), max_sequences=5, device=torch.device("cpu"), progress=lambda _: None)
    batch = sampled(blank_batch([1] * 3, 1), range(3))
    batch.adapters = (AdapterRows(0, 2, adapter("legal")),)
    graphs.forward(batch, torch.tensor([7, 8, 9]))
    assert (graphs.replays, decoder.eager) == (0, 1)


def test_batches_are_padded_copied_and_cut() -> None:
    decoder, recording, heard = _Adder(), Recording(), []
    graphs = GraphDecoder(decoder, recording, max_sequences=5, device=torch.device("cpu"), progress=heard.append)
    assert decoder.prepared == [5, 4, 2, 1], "the largest first"
    assert heard[0] == "capturing graph 1 of 4: 5 sequences"
    ids = graphs.forward(sampled(blank_batch([1] * 3, 1), range(3)), torch.tensor([7, 8, 9]))
    assert ids.flatten().tolist() == [2 * (70 + 4), 2 * (80 + 4), 2 * (90 + 4)]
    assert graphs._ids[:4].tolist() == [7, 8, 9, 0]
    first = graphs.forward(sampled(blank_batch([1] * 1, 1), range(1)), torch.tensor([3]))
    second = graphs.forward(sampled(blank_batch([1] * 1, 1), range(1)), torch.tensor([4]))
    assert (first.item(), second.item()) == (62, 82), "logits outlive the next replay"
    assert (graphs.replays, recording.captured, decoder.eager) == (3, 4, 0)
    graphs.forward(sampled(blank_batch([1] * 6, 1), range(6)), torch.arange(6))
    graphs.forward(sampled(blank_batch([1] * 2, 1), range(1)), torch.arange(2))
    assert (graphs.replays, decoder.eager) == (3, 2)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_model("llama", tmp_path_factory.mktemp("llama"))


class TestGraphRunner(RunnerConformance):
    """Whole engines whose decodes are replayed over static buffers, including padding."""

    @pytest.fixture(autouse=True)
    def _directory(self, llama: Path) -> None:
        self.directory = llama

    def make_runner(self, *, total_blocks: int) -> TorchRunner:
        settings = EngineSettings(
            model=self.directory,
            kv=KVSettings(memory=Bytes(total_blocks * 2 * 3 * 2 * 16 * 16 * 4)),
            max_running=6,
        )
        runner = TorchRunner(settings, lambda _: None, capture=Recording())
        assert runner.total_blocks == total_blocks
        return runner

    def test_decodes_are_replayed(self) -> None:
        runner = self.make_runner(total_blocks=128)
        decoder = runner._decoder
        run(make_engine(runner), *self.commands())
        assert isinstance(decoder, GraphDecoder)
        assert decoder.replays > 30


class TestOverlappingGraphRunner(TestGraphRunner):
    """The same with steps launched ahead, and tokens chosen and fed on the device."""

    def make_runner(self, *, total_blocks: int) -> TorchRunner:
        runner = super().make_runner(total_blocks=total_blocks)
        runner.overlaps = True
        return runner

    def test_its_tokens_are_those_of_a_runner_that_waits(self) -> None:
        commands = self.commands(temperature=0.8, top_p=0.9, seed=11)
        ahead = self.answers(*commands)
        waiting = run(make_engine(TestGraphRunner.make_runner(self, total_blocks=128)), *commands)
        assert {key: answer.tokens for key, answer in ahead.items()} == {
            key: answer.tokens for key, answer in waiting.items()
        }
        for key, answer in ahead.items():
            assert answer.margins == pytest.approx(waiting[key].margins, abs=1e-5)
