"""Drafts submitted with a sequence or sent later."""

import numpy as np
import pytest

from engine.errors import RequestRefused
from engine.messages import ExpectTokens
from engine.sampler.sampler import sample
from engine.scheduling.batch import Sampled
from engine.testing.fake_runner import FakeRunner
from tests.engine import tiny_tokenizers
from tests.engine.driving import Answers, make_engine, run, submit

TOKENIZER = tiny_tokenizers.byte_level_tokenizer()
EOS = next(iter(TOKENIZER.eos_ids))
TEXT = "the quick brown fox jumps over 1234567 🦜"
SAID = TOKENIZER.encode(TEXT)


def saying(token_ids: list[int]) -> FakeRunner:
    """Outputs these tokens, each only if the number of earlier tokens is right, and then EOS."""

    def script(row):
        count = len(row.output_token_ids)
        return (token_ids[count] if count < len(token_ids) else EOS), 1.0

    return FakeRunner(vocab_size=TOKENIZER.vocab_size, script=script)


def ask(draft, said=SAID, **params):
    runner = saying(said)
    values = {"max_tokens": 100, "ignore_eos": False, **params}
    return run(make_engine(runner), submit(0, [1, 2, 3], draft=draft, **values))[0], runner.steps


def test_a_right_draft_comes_in_one_step_with_the_models_own_next_token():
    answer, steps = ask(SAID[:7])
    assert answer.tokens == [*SAID, EOS]
    assert (answer.text, answer.finish.reason) == (TEXT, "stop")
    assert steps == len(SAID) + 1 - 7
    assert (answer.finish.drafted_tokens, answer.finish.accepted_tokens) == (7, 7)


def test_the_first_step_says_what_was_right():
    engine = make_engine(saying(SAID))
    engine.submit(submit(0, [1, 2, 3], draft=[*SAID[:4], 0, *SAID[5:9]], max_tokens=20))
    (output,) = engine.step().outputs
    assert output.token_ids == tuple(SAID[:5])
    engine.check_integrity()
    run(engine)


def test_an_end_inside_the_draft_drops_the_rest():
    answer, steps = ask([*SAID, EOS, 5, 6, 7])
    assert (answer.tokens, steps) == ([*SAID, EOS], 1)
    assert (answer.finish.reason, answer.finish.completion_tokens) == ("stop", len(SAID) + 1)
    assert answer.finish.accepted_tokens == len(SAID) + 1


@pytest.mark.parametrize("stop", ["brown", "x j", "over", "5", "🦜"])
def test_a_stop_string_inside_the_draft_drops_the_rest(stop):
    plain, _ = ask((), stop=(stop,))
    answer, steps = ask([*SAID, EOS], stop=(stop,))
    assert (answer.text, answer.tokens, steps) == (plain.text, plain.tokens, 1)
    assert (answer.finish.reason, answer.finish.stop) == ("stop", stop)
    assert answer.finish.completion_tokens == len(plain.tokens)


@pytest.mark.parametrize("max_tokens", [1, 2, 5])
def test_a_draft_beyond_the_length_is_cut(max_tokens):
    answer, steps = ask(SAID, max_tokens=max_tokens)
    assert (answer.tokens, answer.finish.reason, steps) == (SAID[:max_tokens], "length", 1)
    assert answer.finish.drafted_tokens == max_tokens - 1


def test_end_tokens_are_banned_in_the_draft_while_min_tokens_is_not_reached():
    bans = []

    def script(row):
        bans.append((row.position, row.banned_token_ids))

    engine = make_engine(FakeRunner(vocab_size=400, script=script))
    engine.submit(submit(0, [1], draft=[8, 8, 8, 8], max_tokens=9, min_tokens=2, ignore_eos=False))
    engine.step()
    assert bans == [(1, (EOS,)), (2, (EOS,)), (3, ()), (4, ()), (5, ())]


def test_rejected_blocks_are_free_at_once_and_only_what_was_right_is_cached():
    runner = FakeRunner(block_size=4, total_blocks=33)
    engine = make_engine(runner)
    right = run(engine, submit(0, [1, 2, 3], max_tokens=30))[0].tokens
    engine = make_engine(FakeRunner(block_size=4, total_blocks=33))
    engine.submit(submit(1, [1, 2, 3], draft=[*right[:9], right[9] + 1, *right[10:]], max_tokens=30))
    stats = engine.step().stats
    assert (stats.total_blocks - stats.free_blocks) * 4 == 16, "three of the prompt, ten said"
    engine.check_integrity()
    engine.abort(1)
    again = run(engine, submit(2, [1, 2, 3, *right], max_tokens=1))[2]
    assert again.finish.cached_tokens == 12, "what was computed behind the wrong token is not found"


def test_a_draft_that_names_unknown_tokens_is_refused():
    with pytest.raises(RequestRefused, match="The draft names token 512"):
        make_engine(FakeRunner(vocab_size=512)).submit(submit(0, [1], draft=[3, 512]))


def test_an_abort_frees_a_draft_that_is_not_computed_yet():
    engine = make_engine(FakeRunner(), prefill_chunk=5)
    engine.submit(submit(0, [1] * 10, draft=[2] * 20, max_tokens=50))
    engine.step()
    engine.abort(0)
    engine.check_integrity()
    run(engine)


# --- the distribution -----------------------------------------------------------------------------------------------
class Chain:
    """A Markov chain over a toy vocabulary, sampled by the engine's sampler."""

    block_size, total_blocks, vocab_size, max_model_len = 16, 64, 5, 64
    kv_bytes = 0

    def __init__(self, seed: int) -> None:
        self.logits = np.random.default_rng(seed).normal(0, 1.0, (5, 5)).astype(np.float32)

    def execute(self, batch) -> Sampled:
        rows = [row.row for row in batch.samples]
        return sample(np.ascontiguousarray(self.logits[batch.token_ids[rows]]), batch.samples)

    def close(self) -> None:
        pass


def test_drafts_leave_the_distribution_as_it_is():
    """Chi-square of 3,000 sampled transitions against the model's probabilities; drafts are from another model."""
    large, small = Chain(1), Chain(2)
    exact = np.exp(large.logits) / np.exp(large.logits).sum(axis=1, keepdims=True)
    count = 1500
    commands = [submit(seed, [0], max_tokens=4, temperature=1.0, seed=seed) for seed in range(count)]
    drafts = run(make_engine(small), *commands)
    drafted = [
        submit(
            c.sequence_id, [0], draft=drafts[c.sequence_id].tokens, max_tokens=4, temperature=1.0, seed=c.params.seed
        )
        for c in commands
    ]
    answers = run(make_engine(large), *drafted)
    accepted = sum(answer.finish.accepted_tokens for answer in answers.values())
    assert count // 2 < accepted < 3 * count, "some were right and some were wrong"
    seen = np.zeros((5, 5))
    for answer in answers.values():
        for before, after in zip([0, *answer.tokens[:3]], answer.tokens, strict=True):
            seen[before, after] += 1
    expected = exact * seen.sum(axis=1, keepdims=True)
    assert expected.min() > 5, "the statistic needs it"
    assert ((seen - expected) ** 2 / expected).sum() < 40.0, "20 degrees of freedom: more than this once in 200"
    alone = run(make_engine(large), *commands)
    assert all(answers[seed].tokens == alone[seed].tokens for seed in range(count))


# --- a draft for a running sequence --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("after", "draft", "accepted"),
    [
        (2, SAID[2:9], 7),
        (0, SAID[:9], 7),
        (1, [*SAID[1:3], 0, SAID[4]], 1),
        (2, [0, *SAID[3:9]], 0),
        (1, [0, *SAID[2:9]], 0),
        (0, SAID[:2], 0),
        (3, SAID[3:9], 0),
        (2, [512], 0),
    ],
)
def test_a_draft_can_come_later_and_late(after, draft, accepted):
    """The sequence has two output tokens when the draft arrives."""
    runner = saying(SAID)
    engine = make_engine(runner)
    engine.submit(submit(0, [1, 2, 3], max_tokens=len(SAID)))
    answers = Answers()
    for _ in range(2):
        answers.add(engine.step())
    engine.accept(ExpectTokens(0, after, tuple(draft)))
    engine.accept(ExpectTokens(77, 0, (1,)))
    while engine.has_work:
        engine.check_integrity()
        answers.add(engine.step())
    assert answers[0].tokens == SAID
    assert answers[0].finish.accepted_tokens == accepted
    assert runner.steps == len(SAID) - accepted


def test_a_second_draft_waits_for_nobody():
    engine = make_engine(FakeRunner(), prefill_chunk=4)
    engine.submit(submit(0, [1] * 12, draft=[1, 2, 3], max_tokens=9))
    engine.step()
    engine.accept(ExpectTokens(0, 0, (7, 7, 7, 7)))
    assert run(engine)[0].finish.drafted_tokens == 3


def test_a_draft_beyond_the_pool_changes_nothing():
    runner = FakeRunner(block_size=4, total_blocks=5, max_model_len=1000)
    plain = run(make_engine(runner), submit(0, [1] * 10, max_tokens=1000))[0]
    assert (plain.finish.reason, len(plain.tokens)) == ("length", 6)
    for draft in (plain.tokens * 50, [*plain.tokens, *range(300)]):
        runner = FakeRunner(block_size=4, total_blocks=5, max_model_len=1000)
        drafted = run(make_engine(runner), submit(0, [1] * 10, max_tokens=1000, draft=draft))[0]
        assert (drafted.tokens, drafted.finish.reason) == (plain.tokens, "length")
        assert runner.steps == 1
