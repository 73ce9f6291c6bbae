"""Conformance tests for runners. A runner's test file subclasses `RunnerConformance` and says how to make one.

The tests drive a whole engine, so they also verify the scheduler: no chunking, block placement or batching may change a
request's tokens.
"""

import math
import re
from random import Random

import msgspec
import pytest
from msgspec import structs

from config.model.settings import Speculate
from engine.errors import RequestRefused
from engine.messages import Submit
from engine.sampling.grammar import Grammar, Grammars
from engine.scheduling.batch import Runner
from engine.scheduling.scheduler import Scheduler
from engine.scheduling.sequence import Sequence
from tests.engine import tiny_tokenizers
from tests.engine.driving import Answers, engine_settings, make_engine, run, submit

BLOCK = 16


def alike(top):
    return tuple((token, pytest.approx(value, abs=1e-5), spelled) for token, value, spelled in top)


class RunnerConformance:
    """Needs a vocabulary of at least 64 tokens, and results that do not depend on the batch's shape (float32)."""

    grammars = Grammars(tiny_tokenizers.byte_level_tokenizer())
    computed_alone: dict[int, list[int]]

    def make_runner(self, *, total_blocks: int) -> Runner:
        """A new runner with blocks of 16 tokens and sequences of at least 160; always the same model."""
        raise NotImplementedError

    def answers(self, *commands: Submit, total_blocks: int = 128, **changes) -> Answers:
        runner = self.make_runner(total_blocks=total_blocks)
        try:
            return run(make_engine(runner, **changes), *commands)
        finally:
            runner.close()

    def commands(self, count: int = 5, **params) -> list[Submit]:
        """Prompts of uneven lengths; some share their first two blocks."""
        rng = Random(5)
        common = [rng.randrange(64) for _ in range(2 * BLOCK)]
        prompts = [
            (common if index % 2 else []) + [rng.randrange(64) for _ in range(rng.randrange(1, 40))]
            for index in range(count)
        ]
        return [submit(index, prompt, max_tokens=36 + index, **params) for index, prompt in enumerate(prompts)]

    @pytest.fixture
    def alone(self) -> dict[int, list[int]]:
        """Greedy tokens of each command in an engine of its own; computed once per class."""
        kind = type(self)
        if "computed_alone" not in vars(kind):
            kind.computed_alone = {c.sequence_id: self.answers(c)[c.sequence_id].tokens for c in self.commands()}
        return kind.computed_alone

    def check(self, answers: Answers, alone: dict[int, list[int]]) -> None:
        assert {sequence_id: answer.tokens for sequence_id, answer in answers.items()} == alone

    def test_alone_is_as_in_a_batch(self, alone):
        self.check(self.answers(*self.commands()), alone)
        self.check(self.answers(*reversed(self.commands())), alone)

    @pytest.mark.parametrize("chunk", [1, 7, 16, 33])
    def test_chunks_do_not_matter(self, alone, chunk):
        self.check(self.answers(*self.commands(), prefill_chunk=chunk, max_step_tokens=48), alone)

    def test_prefix_hits_do_not_matter(self, alone):
        engine = make_engine(self.make_runner(total_blocks=128))
        self.check(run(engine, *self.commands()), alone)
        again = run(engine, *self.commands())
        self.check(again, alone)
        assert all(
            again[c.sequence_id].finish.cached_tokens == (len(c.prompt_token_ids) - 1) // BLOCK * BLOCK
            for c in self.commands()
        )

    def test_preemption_does_not_matter(self, alone):
        answers = self.answers(*self.commands(), total_blocks=10)
        self.check(answers, alone)
        assert sum(answer.finish.preemptions for answer in answers.values()) > 0

    def test_seeded_sampling_does_not_depend_on_the_batch(self):
        commands = self.commands(temperature=1.0, seed=3)
        together = self.answers(*commands, prefill_chunk=9, total_blocks=10)
        for command in commands:
            assert self.answers(command)[command.sequence_id].tokens == together[command.sequence_id].tokens

    @pytest.mark.parametrize("changes", [{}, {"prefill_chunk": 7}, {"total_blocks": 12}, {"speculate": Speculate()}])
    @pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 3, "frequency_penalty": 0.5, "logprobs": 1}])
    def test_drafts_do_not_matter(self, sampling, changes):
        """Correct, wrong, partly correct and too long drafts do not change the tokens."""
        commands = self.commands(4, **sampling)
        own = {c.sequence_id: self.answers(c)[c.sequence_id] for c in commands}
        right = [own[c.sequence_id].tokens for c in commands]
        drafts = [[5] * 40, right[1][:20], [*right[2][:11], (right[2][11] + 1) % 64, *right[2][12:]], [*right[3], 1, 2]]
        drafted = [structs.replace(c, draft=tuple(draft)) for c, draft in zip(commands, drafts, strict=True)]
        answers = self.answers(*drafted, **changes)
        for command in commands:
            answer, alone = answers[command.sequence_id], own[command.sequence_id]
            assert answer.tokens == alone.tokens
            assert answer.text == alone.text
            assert answer.logprobs == [
                structs.replace(each, logprob=pytest.approx(each.logprob), top=alike(each.top))
                for each in alone.logprobs
            ]
            assert answer.finish.completion_tokens == len(alone.tokens)
        if not changes:
            accepted = [answers[index].finish.accepted_tokens for index in range(4)]
            assert accepted[1:] == [20, 11, len(right[3]) - 1]

    def test_seeds_matter(self):
        tokens = {
            tuple(self.answers(submit(0, [1, 2, 3], temperature=1.0, seed=seed, max_tokens=12))[0].tokens)
            for seed in range(4)
        }
        assert len(tokens) == 4

    def test_banned_tokens_stay_away_until_min_tokens(self):
        free = self.answers(submit(0, [1, 2, 3], max_tokens=6))[0].tokens
        answer = self.answers(submit(0, [1, 2, 3], max_tokens=6, min_tokens=4, stop_token_ids=tuple(free)))[0]
        assert len(answer.tokens) >= 5 or not set(free) & set(answer.tokens)
        assert not set(answer.tokens[:4]) & set(free)

    def test_logit_bias_bans(self):
        first = self.answers(submit(0, [5, 6], max_tokens=1))[0].tokens[0]
        assert self.answers(submit(0, [5, 6], max_tokens=1, logit_bias=((first, -100.0),)))[0].tokens[0] != first

    @pytest.mark.parametrize("top", [0, 3])
    def test_margins_and_logprobs(self, top):
        answer = self.answers(submit(0, [1, 2, 3], max_tokens=5, logprobs=top))[0]
        assert len(answer.margins) == len(answer.logprobs) == 5
        for token_id, margin, logprobs in zip(answer.tokens, answer.margins, answer.logprobs, strict=True):
            assert 0 <= margin < math.inf
            assert logprobs.token_id == token_id
            assert logprobs.logprob <= 0
            assert len(logprobs.top) == top
            values = [value for _, value, _ in logprobs.top]
            assert values == sorted(values, reverse=True)
            if top:
                assert logprobs.top[0][:2] == (token_id, logprobs.logprob), "greedy takes the best"
                assert values[0] - values[1] == pytest.approx(margin, abs=1e-4)

    def test_logprobs_are_given_only_where_asked_for(self):
        answers = self.answers(submit(0, [1], max_tokens=2, logprobs=1), submit(1, [2], max_tokens=2))
        assert (len(answers[0].logprobs), len(answers[1].logprobs)) == (2, 0)

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"prefill_chunk": 1},
            {"prefill_chunk": 7, "max_step_tokens": 40},
            {"total_blocks": 10},
            {"max_running": 2},
        ],
    )
    def test_what_is_said_of_a_prompt_depends_on_nothing_else(self, alone, changes):
        """Not on chunking, batch, preemption or cached prefixes; and scoring changes no output token."""
        commands = self.commands(prompt_logprobs=2)
        runner = self.make_runner(total_blocks=changes.get("total_blocks", 128))
        engine = make_engine(runner, **{k: v for k, v in changes.items() if k != "total_blocks"})
        run(engine, *self.commands())
        answers = run(engine, *commands)
        self.check(answers, alone)
        assert (sum(answer.finish.preemptions for answer in answers.values()) > 0) == ("total_blocks" in changes)
        for command in commands:
            said = answers[command.sequence_id].prompt_logprobs
            assert [each.token_id for each in said] == list(command.prompt_token_ids)
            assert math.isnan(said[0].logprob)
            assert not said[0].top
            only = structs.replace(command, params=structs.replace(command.params, prompt_only=True))
            mine = self.answers(only)[command.sequence_id]
            assert (mine.tokens, mine.text, mine.finish.reason) == ([], "", "length")
            assert said[1:] == [
                structs.replace(each, logprob=pytest.approx(each.logprob, abs=1e-5), top=alike(each.top))
                for each in mine.prompt_logprobs[1:]
            ]
            for each in said[1:]:
                assert each.rank >= 1
                assert len(each.top) == 2
                assert each.top[0][1] >= each.top[1][1]
                if each.rank == 1:
                    assert each.top[0][1] == each.logprob

    def test_prompts_that_ask_and_prompts_that_do_not_share_batches(self, alone):
        commands = self.commands()
        asking = [
            structs.replace(c, params=structs.replace(c.params, prompt_logprobs=c.sequence_id % 2 or None))
            for c in commands
        ]
        answers = self.answers(*asking, prefill_chunk=5)
        self.check(answers, alone)
        for command in commands:
            said = answers[command.sequence_id].prompt_logprobs
            assert len(said) == (len(command.prompt_token_ids) if command.sequence_id % 2 else 0)

    def test_a_preempted_prompt_says_everything_once(self):
        """One block short: the sequence is preempted within its prompt, and continues scoring where it was."""
        prompt = [number % 61 for number in range(100)]
        whole = self.answers(submit(0, prompt, prompt_logprobs=1, prompt_only=True))[0].prompt_logprobs
        runner = self.make_runner(total_blocks=9)
        engine = make_engine(runner, prefill_chunk=16)
        engine.submit(submit(0, prompt, prompt_logprobs=1, prompt_only=True))
        engine.step()
        engine.step()
        scheduler = engine._scheduler
        scheduler._preempt(scheduler._running[0])
        answer = run(engine)[0]
        assert answer.finish.preemptions == 1
        assert [each.token_id for each in answer.prompt_logprobs] == prompt
        assert [each.rank for each in answer.prompt_logprobs] == [each.rank for each in whole]

    def test_a_prompt_as_long_as_the_model_can_be_read(self):
        runner = self.make_runner(total_blocks=9)
        engine = make_engine(runner, max_model_len=100)
        prompt = [number % 61 for number in range(100)]
        answer = run(engine, submit(0, prompt, prompt_logprobs=0, prompt_only=True))[0]
        assert len(answer.prompt_logprobs) == 100
        with pytest.raises(RequestRefused, match="100 tokens"):
            engine.submit(submit(1, prompt, prompt_logprobs=0))

    def bound(self, **params) -> list[Submit]:
        """The answer of every other command has a grammar; `ignore_eos` keeps the others running."""
        dates = self.grammars.compile(Grammar("regex", "[0-9]{4}(-[0-9]{2}){8,12}[A-F]*"))
        return [
            msgspec.structs.replace(command, grammar=dates if command.sequence_id % 2 else None)
            for command in self.commands(**params)
        ]

    @pytest.mark.parametrize("params", [{}, {"temperature": 1.0, "seed": 3}, {"min_tokens": 20, "ignore_eos": False}])
    def test_grammars_bind_their_own_rows_only(self, params):
        free = self.answers(*self.commands(**params))
        together = self.answers(*self.bound(**params), prefill_chunk=9, total_blocks=10)
        assert sum(answer.finish.preemptions for answer in together.values()) > 0
        for command in self.bound(**params):
            answer = together[command.sequence_id]
            if command.grammar is None:
                assert answer.tokens == free[command.sequence_id].tokens
                continue
            assert self.answers(command)[command.sequence_id].tokens == answer.tokens
            assert re.match("[0-9]{4}(-[0-9]{2}){8,12}[A-F]*$", answer.text) or answer.finish.reason == "length"
            assert re.match("[0-9]{4}-[0-9]{2}", answer.text)
            assert all(margin >= 0 for margin in answer.margins)

    def test_tokens_without_an_alternative_have_no_margin(self):
        only = self.grammars.compile(Grammar("choice", '["17"]'))
        answer = self.answers(submit(0, [1, 2, 3], grammar=only))[0]
        assert (answer.text, answer.finish.reason) == ("17", "stop")
        assert answer.margins == []
        some = self.answers(submit(0, [1, 2, 3], grammar=self.grammars.compile(Grammar("regex", "1[23]45[67]"))))[0]
        assert (len(some.tokens), len(some.margins)) == (5, 2)

    def test_a_step_without_samples(self):
        runner = self.make_runner(total_blocks=8)
        scheduler = Scheduler(engine_settings(prefill_chunk=3), total_blocks=8, block_size=BLOCK, max_model_len=64)
        scheduler.add(Sequence(submit(0, [1, 2, 3, 4]), arrival=0, limit=9, seed=0, banned=()))
        plan = scheduler.schedule()
        assert plan is not None
        assert not plan.batch.samples
        sampled = runner.execute(plan.batch)
        assert (sampled.token_ids, sampled.margins, sampled.logprobs) == ([], [], [])
        runner.close()

    def test_close_twice_then_no_more(self):
        runner = self.make_runner(total_blocks=8)
        scheduler = Scheduler(engine_settings(), total_blocks=8, block_size=BLOCK, max_model_len=64)
        scheduler.add(Sequence(submit(0, [1, 2]), arrival=0, limit=9, seed=0, banned=()))
        plan = scheduler.schedule()
        assert plan is not None
        runner.close()
        runner.close()
        with pytest.raises(Exception, match="closed"):
            runner.execute(plan.batch)
