"""How probable several answers are: which readings that takes, and that each ends once and leaves nothing."""

from collections.abc import Sequence
from math import exp, fsum, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.engine import Engine
from engine.core.weighing import logprobs_of, readings_of
from engine.errors import RequestRefused
from engine.messages import Abort, Embedding, Finished, SequenceOutput, Weigh
from engine.testing.fake_runner import FakeRunner
from tests.engine.driving import make_engine, submit

PROMPT = tuple(range(1, 40))


def weigh(number: int, *answers: Sequence[int], prompt: Sequence[int] = PROMPT, **options) -> Weigh:
    return Weigh(sequence_id=number, prompt_token_ids=tuple(prompt), answers=tuple(map(tuple, answers)), **options)


def drained(engine: Engine) -> dict[int, SequenceOutput]:
    """The last output of each sequence; integrity is checked between steps."""
    ends = {}
    while engine.has_work:
        for output in engine.step().outputs:
            if output.finish is not None:
                assert output.sequence_id not in ends
                ends[output.sequence_id] = output
        engine.check_integrity()
    return ends


def logprobs(output: SequenceOutput) -> list[float]:
    assert isinstance(output, Embedding), output
    return np.frombuffer(output.vector, "<f4").tolist()


def test_answers_that_begin_alike_share_their_readings() -> None:
    found = readings_of([(1,), (2, 3, 4), (2, 3, 5), (2, 6)])
    assert found == {(): (1, 2), (2,): (3, 6), (2, 3): (4, 5)}


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([], "answers_invalid"),
        ([(1,), ()], "answers_invalid"),
        ([(1,), (1,)], "answers_ambiguous"),
    ],
)
def test_answers_that_cannot_be_told_apart(answers: list[tuple[int, ...]], code: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        readings_of(answers)
    assert refused.value.code == code
    engine = make_engine(FakeRunner())
    engine.accept(weigh(1, *answers))
    (end,) = drained(engine).values()
    assert isinstance(end, Finished)
    assert (end.finish.reason, end.finish.code) == ("error", code)


def chosen(prompt: Sequence[int]) -> int:
    """The token that the fake takes for the most probable after these."""
    engine = make_engine(FakeRunner())
    engine.accept(submit(1, prompt, max_tokens=1))
    (output,) = engine.step().outputs
    return output.token_ids[0]


def test_an_answer_that_begins_another_is_what_is_left_of_its_probability() -> None:
    """(1,) is given where neither (1, 2) nor (1, 3) is; (1, 2, 4) is a part of (1, 2)."""
    found = {(1,): log(0.5), (1, 2): log(0.4), (1, 3): log(0.2), (1, 2, 4): log(0.1), (5,): log(0.25)}
    answers = [(1,), (1, 2), (1, 2, 4), (1, 3), (5,)]
    shares = [exp(each) for each in logprobs_of(answers, found)]
    assert shares == pytest.approx([0.5 * 0.4, 0.5 * 0.4 * 0.9, 0.5 * 0.4 * 0.1, 0.5 * 0.2, 0.25])
    assert logprobs_of([(1,), (1, 2)], {(1,): -1.0, (1, 2): 0.0})[0] < -20


def expected(prompt: Sequence[int], answer: Sequence[int]) -> float:
    """The fake's log-probability: of each token -0.5 minus its distance from the most probable one."""
    parts = [-0.5 - (token - chosen([*prompt, *answer[:place]])) % 512 for place, token in enumerate(answer)]
    return fsum(parts)


def test_an_answers_probability_is_the_product_of_its_tokens() -> None:
    engine = make_engine(FakeRunner())
    answers = ((7,), (9, 11), (9, 12, 13))
    engine.accept(weigh(1, *answers))
    (end,) = drained(engine).values()
    assert logprobs(end) == [expected(PROMPT, answer) for answer in answers]
    assert (end.finish.reason, end.finish.prompt_tokens, end.finish.completion_tokens) == ("stop", len(PROMPT), 0)


def test_the_prompt_is_computed_once() -> None:
    """All readings but the first take its full blocks from the prefix cache."""
    tokens = []
    engine = make_engine(FakeRunner(on_step=lambda _, batch: tokens.append(len(batch.token_ids))))
    engine.accept(weigh(1, (7,), (9, 11), (9, 12, 13)))
    drained(engine)
    rest = len(PROMPT) % 16
    assert sum(tokens) == len(PROMPT) + (rest + 1) + (rest + 2)
    tokens.clear()
    engine.accept(weigh(2, (7,), (8,)))
    (end,) = drained(engine).values()
    assert end.finish.cached_tokens == len(PROMPT) - rest == 32
    assert tokens == [rest]


def test_one_that_is_aborted_leaves_nothing() -> None:
    engine = make_engine(FakeRunner())
    engine.accept(weigh(1, (7,), (9, 11), (9, 12, 13), prompt=range(1, 400)))
    engine.accept(weigh(2, (7,), (8,)))
    engine.step()
    engine.accept(Abort(1))
    ends = drained(engine)
    assert ends[1].finish.reason == "abort"
    assert logprobs(ends[2]) == [expected(PROMPT, (7,)), expected(PROMPT, (8,))]
    assert engine.stats().free_blocks == engine.stats().total_blocks
    engine.accept(weigh(3, (7,), (9, 11)))
    engine.abort_all()
    assert [output.finish.reason for output in engine.step().outputs] == ["abort"]
    engine.check_integrity()


def test_what_does_not_fit_is_refused_as_a_whole() -> None:
    engine = make_engine(FakeRunner(max_model_len=64))
    engine.accept(weigh(1, (7,), (9, 11), prompt=range(64)))
    engine.accept(weigh(2, (7,), (9, 600)))
    engine.accept(weigh(3, (7,), (8,)))
    engine.accept(weigh(3, (7,), (8,)))
    ends = [output for output in engine.step().outputs if isinstance(output, Finished)]
    assert [end.finish.code for end in ends] == [
        "context_length_exceeded",
        "token_out_of_vocabulary",
        "sequence_id_in_use",
    ]
    engine.check_integrity()


@given(
    st.lists(
        st.tuples(
            st.integers(1, 60),
            st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple), min_size=1, max_size=4),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sets(st.integers(0, 5)),
    st.booleans(),
)
def test_every_one_ends_once_beside_others(
    asked: list[tuple[int, list[tuple[int, ...]]]], aborted: set[int], prefix_cache: bool
) -> None:
    engine = make_engine(FakeRunner(), prefix_cache=prefix_cache, prefill_chunk=16, max_step_tokens=40)
    for number, (length, answers) in enumerate(asked):
        engine.accept(weigh(number, *answers, prompt=range(length)))
        engine.accept(submit(100 + number, range(length), max_tokens=3))
    engine.step()
    for number in aborted:
        engine.accept(Abort(number))
    drained(engine)
    assert engine.stats().outstanding_tokens == 0
    assert engine.stats().free_blocks == engine.stats().total_blocks
