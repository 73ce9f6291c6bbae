from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model.settings import EngineSettings, KVSettings, Speculate
from config.model.table import Bytes
from engine.core.embedder import Embedder
from engine.errors import EngineDead, EngineError, RequestRefused
from engine.messages import Abort, Embed, Embedding, Finished, Submit
from engine.model.vectors import EmbeddingSizes
from engine.sampling.params import SamplingParams
from engine.testing.fake_encoder import FakeEncoder


def embedder(runner: FakeEncoder | None = None, **settings) -> Embedder:
    return Embedder(runner or FakeEncoder(), EngineSettings(model=Path("model"), **settings))


def one(number: int, *token_ids: int, **options) -> Embed:
    return Embed(sequence_id=number, token_ids=token_ids or (number + 1,), **options)


def drained(engine: Embedder) -> list[list[Embedding | Finished]]:
    """Outputs of every step until there is no work; integrity is checked between steps."""
    steps = []
    while engine.has_work:
        steps.append(list(engine.step().outputs))
        engine.check_integrity()
    return steps


def numbers(outputs: list[Embedding | Finished]) -> list[int]:
    return [output.sequence_id for output in outputs]


def test_each_input_gets_its_vector_and_its_end():
    runner = FakeEncoder()
    engine = embedder(runner)
    engine.accept(one(1, 5, 6))
    engine.accept(one(2, 7))
    ((first, second),) = drained(engine)
    assert first.vector == runner.embed([(5, 6)])[0].tobytes()
    assert first.finish.reason == "stop"
    assert (first.finish.prompt_tokens, second.finish.prompt_tokens) == (2, 1)
    assert second.vector != first.vector
    assert engine.stats().prompt_tokens_total == 3


def test_a_step_takes_what_fits_by_priority_and_arrival():
    engine = embedder(max_running=3, max_step_tokens=10)
    for number, length, priority in ((1, 4, 0), (2, 4, 0), (3, 4, 0), (4, 2, 5), (5, 1, 0), (6, 1, 0), (7, 1, 0)):
        engine.accept(one(number, *range(length), priority=priority))
    assert engine.stats().outstanding_tokens == 17
    assert [numbers(step) for step in drained(engine)] == [[4, 1, 2], [3, 5, 6], [7]]
    assert engine.stats().outstanding_tokens == 0


def test_best_effort_inputs_come_last_and_in_short_steps_of_their_own():
    engine = embedder(max_running=9, max_step_tokens=16)
    for number, best_effort in ((1, True), (2, False), (3, True), (4, True), (5, False)):
        engine.accept(one(number, *range(2), priority=number if best_effort else 0, best_effort=best_effort))
    assert (engine.stats().best_effort_waiting, engine.stats().best_effort_tokens) == (3, 6)
    assert [numbers(step) for step in drained(engine)] == [[2, 5], [4, 3], [1]]


def test_an_input_longer_than_a_step_has_a_step_of_its_own():
    engine = embedder(max_step_tokens=4)
    for number, length in ((1, 2), (2, 40), (3, 2)):
        engine.accept(one(number, *range(length)))
    assert [numbers(step) for step in drained(engine)] == [[1], [2], [3]]


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(0, 2)), max_size=30),
    st.integers(1, 5),
    st.integers(1, 20),
    st.sets(st.integers(0, 29)),
)
def test_every_input_ends_once_and_no_step_is_too_large(inputs, most_inputs, usable_positions, aborted):
    engine = embedder(max_running=most_inputs, max_step_tokens=usable_positions)
    for number, (length, priority) in enumerate(inputs):
        engine.accept(one(number, *range(length), priority=priority))
    for number in aborted:
        engine.accept(Abort(number))
    steps = drained(engine)
    ends = {output.sequence_id: output.finish.reason for step in steps for output in step}
    assert sum(map(len, steps)) == len(ends) == len(inputs)
    assert {number for number, reason in ends.items() if reason == "abort"} == {n for n in aborted if n < len(inputs)}
    for step in steps:
        made = [inputs[output.sequence_id][0] for output in step if output.finish.reason == "stop"]
        assert len(made) <= most_inputs
        assert sum(made) <= usable_positions or len(made) == 1


def test_a_cut_embedding_has_length_one_again():
    runner = FakeEncoder(sizes=EmbeddingSizes(8, (4,)))
    engine = embedder(runner)
    engine.accept(one(1, 5, size=4))
    engine.accept(one(2, 5, size=8))
    ((cut, whole),) = drained(engine)
    short, full = np.frombuffer(cut.vector, "<f4"), np.frombuffer(whole.vector, "<f4")
    assert np.linalg.norm(short) == pytest.approx(1)
    np.testing.assert_allclose(short * np.linalg.norm(full[:4]), full[:4], rtol=1e-6)
    assert len(full) == 8


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (Embed(sequence_id=1, token_ids=()), "prompt_empty"),
        (one(1, *range(65)), "context_length_exceeded"),
        (one(1, 3, 512), "token_out_of_vocabulary"),
        (one(1, 3, -1), "token_out_of_vocabulary"),
        (one(1, 3, size=5), "dimensions_unsupported"),
        (one(9, 3), "sequence_id_in_use"),
    ],
)
def test_what_can_never_be_embedded_is_refused_at_once(command, code):
    engine = embedder()
    engine.submit(one(9))
    with pytest.raises(RequestRefused) as refused:
        engine.submit(command)
    assert refused.value.code == code
    engine.accept(command)
    ((said, *_),) = drained(engine)
    assert (type(said), said.finish.reason, said.finish.code) == (Finished, "error", code)


def test_an_encoder_generates_nothing():
    engine = embedder()
    engine.accept(Submit(sequence_id=1, prompt_token_ids=(1, 2), params=SamplingParams(max_tokens=1)))
    (((said,)),) = drained(engine)
    assert (said.finish.reason, said.finish.code) == ("error", "not_generating")


def test_numbers_that_are_none_are_an_error_of_their_input():
    class Overflowing(FakeEncoder):
        def embed(self, inputs, seconds=()):
            rows = super().embed(inputs)
            rows[0, 0] = np.inf
            return rows

    engine = embedder(Overflowing())
    engine.accept(one(1))
    engine.accept(one(2))
    ((bad, good),) = drained(engine)
    assert (type(bad), bad.finish.code) == (Finished, "embedding_not_finite")
    assert good.finish.reason == "stop"


def test_a_failing_runner_ends_the_engine():
    def fail(step, inputs):
        raise RuntimeError("no more memory")

    engine = embedder(FakeEncoder(on_step=fail))
    engine.accept(one(1))
    with pytest.raises(EngineDead, match="no more memory"):
        engine.step()
    with pytest.raises(EngineDead):
        engine.submit(one(2))


def test_a_closed_engine_says_so_and_drops_what_waits():
    engine = embedder()
    engine.accept(one(1))
    engine.abort_all()
    assert [output.finish.reason for output in engine.step().outputs] == ["abort"]
    engine.close()
    engine.close()
    with pytest.raises(EngineDead, match="closed"):
        engine.step()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"kv": KVSettings(memory=Bytes(2**20))}, "kv"),
        ({"prefill_chunk": 64, "prefix_cache": False}, "prefill_chunk, prefix_cache"),
        ({"speculate": Speculate()}, "speculate"),
        ({"quantization": "int8"}, "quantization"),
        ({"max_running": 0}, "max_running"),
    ],
)
def test_settings_that_mean_nothing_here_are_named(settings, named):
    with pytest.raises(EngineError, match=named):
        embedder(**settings)
