"""The engine of decoders that make vectors, before a model whose rows are known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model.settings import EngineSettings, Speculate
from engine.core.decoder_embedder import DecoderEmbedder
from engine.errors import EngineDead, EngineError, ModelError
from engine.messages import Abort, Embed, Embedding, Finished, SequenceOutput, Submit, Weigh
from engine.model.sentence_modules import Pooling
from engine.model.vectors import EmbeddingSizes
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Batch
from engine.testing.fake_runner import FakeRunner


class KnownRows:
    """Each row is its token and its position. A `FakeRunner` beside it refuses batches that contradict themselves."""

    def __init__(self, pooling: Pooling = "last", *, total_blocks: int = 64) -> None:
        self._pages = FakeRunner(total_blocks=total_blocks)
        self.block_size = self._pages.block_size
        self.total_blocks = total_blocks
        self.kv_bytes = self._pages.kv_bytes
        self.vocab_size = 512
        self.max_input_tokens = 200
        self.sizes = EmbeddingSizes(2, (1,))
        self.pooling = pooling
        self.steps: list[int] = []
        self.fails = False

    def hidden(self, batch: Batch, rows: Sequence[tuple[int, int]]) -> list[npt.NDArray[np.float32]]:
        if self.fails:
            raise EngineError("broken", "it broke")
        self._pages.execute(batch)
        self.steps.append(len(batch.token_ids))
        known = np.stack((batch.token_ids, batch.positions), axis=1).astype(np.float32)
        return [known[first : first + count] for first, count in rows]

    def vector(self, row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return row

    def close(self) -> None:
        self._pages.close()


def engine_of(runner: KnownRows, **settings) -> DecoderEmbedder:
    return DecoderEmbedder(runner, EngineSettings(model=Path("model"), **settings))


def drained(engine: DecoderEmbedder) -> dict[int, SequenceOutput]:
    found = {}
    while engine.has_work:
        for output in engine.step().outputs:
            assert output.sequence_id not in found
            found[output.sequence_id] = output
        engine.check_integrity()
    assert engine.stats().free_blocks == engine.stats().total_blocks
    assert engine.stats().outstanding_tokens == 0
    return found


@pytest.mark.parametrize(
    ("pooling", "row"), [("last", [49, 49]), ("cls", [0, 0]), ("mean", [sum(range(50)) / 50, sum(range(50)) / 50])]
)
def test_pooling_over_chunks(pooling: Pooling, row: list[float]) -> None:
    runner = KnownRows(pooling)
    engine = engine_of(runner, prefill_chunk=16)
    engine.accept(Embed(sequence_id=1, token_ids=tuple(range(50))))
    (output,) = drained(engine).values()
    assert isinstance(output, Embedding)
    assert np.frombuffer(output.vector, "<f4").tolist() == pytest.approx(row)
    assert (output.finish.prompt_tokens, output.finish.completion_tokens) == (50, 0)
    assert runner.steps == [16, 16, 16, 2]
    assert engine.stats().prompt_tokens_total == 50


def test_short_inputs_go_beside_a_long_one() -> None:
    engine = engine_of(KnownRows(), prefill_chunk=8, max_step_tokens=32)
    engine.accept(Embed(sequence_id=1, token_ids=tuple(range(150))))
    for number in range(2, 5):
        engine.accept(Embed(sequence_id=number, token_ids=(number,)))
    assert {output.sequence_id for output in engine.step().outputs} == {2, 3, 4}
    assert drained(engine).keys() == {1}


def test_a_vector_is_cut_on_request() -> None:
    engine = engine_of(KnownRows())
    engine.accept(Embed(sequence_id=1, token_ids=(3, 4), size=1))
    (output,) = drained(engine).values()
    assert np.frombuffer(output.vector, "<f4").tolist() == [1.0]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (Embed(sequence_id=1, token_ids=()), "prompt_empty"),
        (Embed(sequence_id=1, token_ids=(1,) * 201), "context_length_exceeded"),
        (Embed(sequence_id=1, token_ids=(512,)), "token_out_of_vocabulary"),
        (Embed(sequence_id=1, token_ids=(1,), size=7), "dimensions_unsupported"),
        (Embed(sequence_id=9, token_ids=(1,)), "sequence_id_in_use"),
        (Submit(sequence_id=1, prompt_token_ids=(1,), params=SamplingParams(max_tokens=1)), "not_generating"),
        (Weigh(sequence_id=1, prompt_token_ids=(1,), answers=((1,),)), "not_generating"),
    ],
)
def test_what_can_never_be_computed(command: Embed | Submit | Weigh, code: str) -> None:
    engine = engine_of(KnownRows())
    engine.accept(Embed(sequence_id=9, token_ids=(1,)))
    engine.accept(command)
    outputs = engine.step().outputs
    assert [output.finish.code for output in outputs if isinstance(output, Finished)] == [code]


def test_settings_of_models_of_text_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match="speculate, max_adapters means nothing"):
        engine_of(KnownRows(), speculate=Speculate(), max_adapters=3)


def test_a_failed_step_ends_it() -> None:
    runner = KnownRows()
    engine = engine_of(runner)
    engine.accept(Embed(sequence_id=1, token_ids=(1,)))
    runner.fails = True
    with pytest.raises(EngineDead, match="it broke"):
        engine.step()


@given(
    st.lists(st.tuples(st.integers(1, 120), st.integers(0, 2)), max_size=12),
    st.sets(st.integers(0, 11)),
    st.sampled_from(["last", "cls", "mean"]),
    st.integers(1, 40),
)
def test_every_input_ends_once_with_its_own_rows(
    inputs: list[tuple[int, int]], aborted: set[int], pooling: Pooling, chunk: int
) -> None:
    engine = engine_of(KnownRows(pooling, total_blocks=20), prefill_chunk=chunk, max_step_tokens=40)
    for number, (length, priority) in enumerate(inputs):
        engine.accept(Embed(sequence_id=number, token_ids=(number,) * length, priority=priority))
    engine.step()
    for number in aborted:
        engine.accept(Abort(number))
    for number, output in drained(engine).items():
        if isinstance(output, Embedding):
            length = inputs[number][0]
            place = {"last": length - 1, "cls": 0, "mean": (length - 1) / 2}[pooling]
            assert np.frombuffer(output.vector, "<f4").tolist() == pytest.approx([number, place])
