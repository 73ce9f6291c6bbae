"""Overlapped steps: the same answers as step by step."""

from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from engine.errors import EngineDead, EngineError
from engine.messages import ExpectTokens
from engine.testing.fake_runner import FakeRunner
from engine.text.reasoning import ReasoningMarkers
from engine.text.reasoning_cap import ReasoningCap
from tests.engine.conformance import RunnerConformance
from tests.engine.driving import Answers, make_engine, run, submit
from tests.engine.tiny_tokenizers import byte_level_tokenizer

VOCAB = 40
BLOCK = 4
CAP = ReasoningCap(5, ReasoningMarkers("!", "#$"), tuple(byte_level_tokenizer().encode("#$")), opened=True)


class TestOverlappingFakeRunner(RunnerConformance):
    def make_runner(self, *, total_blocks: int) -> FakeRunner:
        return FakeRunner(vocab_size=512, total_blocks=total_blocks, max_model_len=512, overlaps=True)


class Counting(FakeRunner):
    """Records how many results were uncollected when a step was launched."""

    def __init__(self, **options) -> None:
        super().__init__(**{"overlaps": True, **options})
        self.unread = 0
        self.most = 0
        self.launched_ahead = 0

    def launch(self, batch):
        self.launched_ahead += self.unread > 0
        self.unread += 1
        self.most = max(self.most, self.unread)
        result = super().launch(batch)

        def read():
            self.unread -= 1
            return result()

        return read


def test_every_step_but_the_first_is_launched_ahead() -> None:
    runner = Counting()
    answer = run(make_engine(runner), submit(0, [1, 2, 3], max_tokens=20))[0]
    assert (len(answer.tokens), runner.steps) == (20, 20), "what is known to be the end costs no step"
    assert (runner.launched_ahead, runner.most, runner.unread) == (19, 2, 0)


def test_an_end_that_nobody_foresaw_costs_one_row_of_one_step() -> None:
    free = run(make_engine(FakeRunner()), submit(0, [1, 2, 3], max_tokens=20))[0].tokens
    stop = free[7]
    runner = Counting()
    answer = run(make_engine(runner), submit(0, [1, 2, 3], max_tokens=20, stop_token_ids=(stop,)))[0]
    assert answer.finish.reason == "stop"
    assert answer.finish.completion_tokens == len(answer.tokens) == free.index(stop) + 1
    assert runner.steps == len(answer.tokens) + 1


@pytest.mark.parametrize(
    "needs", [{"logprobs": 1}, {"frequency_penalty": 0.5}, {"min_tokens": 99, "ignore_eos": False}]
)
def test_what_needs_the_host_is_read_before_the_next_step(needs: dict) -> None:
    runner = Counting()
    run(make_engine(runner), submit(0, [1, 2, 3], max_tokens=9, **needs), submit(1, [4], max_tokens=4))
    assert runner.launched_ahead == 0
    assert runner.unread == 0


def test_one_that_needs_the_host_joins_those_that_do_not() -> None:
    runner = Counting()
    engine = make_engine(runner)
    engine.submit(submit(0, [1, 2, 3], max_tokens=30))
    answers = Answers()
    for _ in range(5):
        answers.add(engine.step())
    engine.submit(submit(1, [7, 8], max_tokens=4, logprobs=2))
    for sequence_id, answer in run(engine).items():
        answers.setdefault(sequence_id, type(answer)()).tokens.extend(answer.tokens)
    for sequence_id, command in enumerate((submit(0, [1, 2, 3], max_tokens=30), submit(1, [7, 8], max_tokens=4))):
        alone = run(make_engine(FakeRunner()), command)[sequence_id]
        assert answers[sequence_id].tokens == alone.tokens


def test_an_abort_drops_what_is_under_way() -> None:
    engine = make_engine(Counting())
    engine.submit(submit(0, [1, 2, 3], max_tokens=30))
    answers = Answers()
    for _ in range(4):
        answers.add(engine.step())
    engine.abort(0)
    engine.check_integrity()
    while engine.has_work:
        answers.add(engine.step())
    assert answers[0].finish.reason == "abort"
    assert answers[0].finish.completion_tokens == len(answers[0].tokens) == 3


def test_a_draft_for_a_token_under_way_is_compared_with_what_it_became() -> None:
    tokens = run(make_engine(FakeRunner()), submit(0, [1, 2, 3], max_tokens=30))[0].tokens
    engine = make_engine(Counting())
    engine.submit(submit(0, [1, 2, 3], max_tokens=30))
    answers = Answers()
    for _ in range(4):
        answers.add(engine.step())
    engine.accept(ExpectTokens(0, 0, tuple(tokens[:20])))
    while engine.has_work:
        answers.add(engine.step())
    assert answers[0].tokens == tokens
    assert answers[0].finish.accepted_tokens == 16


def test_a_step_that_fails_while_the_next_is_launched_ends_the_engine() -> None:
    runner = Counting()
    engine = make_engine(runner)
    engine.submit(submit(0, [1, 2, 3], max_tokens=30))
    engine.step()
    engine.step()
    runner._slots[:] = -1  # the device lost its memory: the next step reads unwritten slots
    engine.step()  # collects the tokens chosen before that
    with pytest.raises(EngineDead):
        engine.step()
    with pytest.raises(EngineError):
        engine.step()


class Overlap(RuleBasedStateMachine):
    """Random traffic through an overlapping engine; every answer is compared with that of an engine of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = Random(0)
        self.commands = {}
        self.aborted: set[int] = set()
        self.answers = Answers()
        runner = Counting(vocab_size=VOCAB, block_size=BLOCK, total_blocks=14, max_model_len=40)
        self.engine = make_engine(runner, max_running=4, prefill_chunk=7, max_step_tokens=12)

    @rule(
        prompt=st.lists(st.integers(0, 3), min_size=1, max_size=18),
        tokens=st.integers(1, 20),
        temperature=st.sampled_from([0.0, 1.0]),
        priority=st.integers(0, 1),
        stops=st.lists(st.integers(0, VOCAB - 1), max_size=3),
        least=st.sampled_from([0, 0, 4]),
        logprobs=st.sampled_from([None, None, None, 1]),
        cap=st.sampled_from([None, None, 4, 9]),
    )
    def arrive(self, prompt, tokens, temperature, priority, stops, least, logprobs, cap) -> None:  # noqa: PLR0917
        sequence_id = len(self.commands)
        command = submit(
            sequence_id,
            prompt,
            max_tokens=tokens,
            temperature=temperature,
            priority=priority,
            stop_token_ids=tuple(stops),
            min_tokens=least,
            logprobs=logprobs,
            seed=5,
        )
        if cap is not None:
            command = structs.replace(command, reasoning_cap=structs.replace(CAP, tokens=cap))
        self.commands[sequence_id] = command
        self.engine.submit(command)

    @rule(steps=st.integers(1, 6))
    def move(self, steps: int) -> None:
        for _ in range(steps):
            self.answers.add(self.engine.step())
            self.engine.check_integrity()

    @precondition(lambda self: self.commands)
    @rule(data=st.data())
    def abort(self, data) -> None:
        sequence_id = data.draw(st.sampled_from(sorted(self.commands)))
        if sequence_id not in self.answers or self.answers[sequence_id].finish is None:
            self.aborted.add(sequence_id)
        self.engine.abort(sequence_id)

    @invariant()
    def books_are_right(self) -> None:
        self.engine.check_integrity()

    def teardown(self) -> None:
        while self.engine.has_work:
            self.answers.add(self.engine.step())
            self.engine.check_integrity()
        stats = self.engine.stats()
        assert (stats.free_blocks, stats.outstanding_tokens) == (stats.total_blocks, 0)
        assert self.answers.keys() == self.commands.keys()
        for sequence_id, command in self.commands.items():
            answer = self.answers[sequence_id]
            alone = FakeRunner(vocab_size=VOCAB, block_size=BLOCK, total_blocks=14, max_model_len=40)
            want = run(make_engine(alone), command)[sequence_id]
            if answer.finish.reason == "abort":
                assert sequence_id in self.aborted
                assert answer.tokens == want.tokens[: len(answer.tokens)]
            else:
                assert (answer.tokens, answer.text, answer.finish.reason) == (
                    want.tokens,
                    want.text,
                    want.finish.reason,
                )
            assert answer.finish.completion_tokens == len(answer.tokens)


TestOverlap = Overlap.TestCase
TestOverlap.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
