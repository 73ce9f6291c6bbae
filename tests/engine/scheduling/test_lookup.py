import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model.settings import Speculate
from engine.scheduling.lookup import NgramLookup
from engine.testing.fake_runner import FakeRunner
from tests.engine.driving import make_engine, run, submit


def naive(said: list[int], ngram: int, tokens: int) -> list[int]:
    for start in range(len(said) - 1, ngram - 1, -1):
        if said[start - ngram : start] == said[-ngram:]:
            draft = list(said)
            for offset in range(tokens):
                draft.append(draft[start + offset])
            return draft[len(said) :]
    return []


small = st.lists(st.integers(0, 3), max_size=30)


@given(small, st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 3), st.integers(1, 9))
def test_it_finds_what_followed_the_last_time(prompt, output, ngram, tokens):
    lookup = NgramLookup(prompt, ngram=ngram, tokens=tokens)
    for count in range(1, len(output) + 1):
        assert lookup.propose(output[:count]) == naive([*prompt, *output[:count]], ngram, tokens)


def test_short_periods_go_on():
    assert NgramLookup([7, 1, 2, 1, 2], ngram=2, tokens=5).propose([]) == [1, 2, 1, 2, 1]
    assert NgramLookup([7, 1, 2], ngram=2, tokens=5).propose([]) == []


@pytest.mark.parametrize("max_tokens", [1, 2, 9, 64])
def test_an_engine_that_drafts_for_itself_needs_fewer_steps_where_text_repeats(max_tokens):
    poem = [3, 1, 4, 1, 5, 9, 2, 6]

    def script(sample):
        return poem[sample.position % len(poem)], 1.0

    def told(**changes):
        runner = FakeRunner(script=script)
        engine = make_engine(runner, **changes)
        answer = run(engine, submit(0, poem * 2, max_tokens=max_tokens))[0]
        return answer, runner.steps, engine.stats()

    plain, steps, _ = told()
    answer, fewer, stats = told(speculate=Speculate(ngram=3, tokens=8))
    assert (answer.tokens, answer.text, answer.finish.reason) == (plain.tokens, plain.text, "length")
    assert steps == max_tokens
    assert fewer == 1 + -(-(max_tokens - 1) // 9)
    assert answer.finish.accepted_tokens == max_tokens - fewer
    assert stats.accepted_tokens_total == answer.finish.accepted_tokens
    assert stats.drafted_tokens_total == answer.finish.drafted_tokens
