import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.sampler.logit_rules import change_logits, tail_cut
from engine.sampler.sampler import sample
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import SampleRow, chosen_by_device
from engine.text.reasoning import PRESETS
from engine.text.reasoning_cap import CapState, ReasoningCap
from tests.engine.sampler.reference_noise import gumbel_noise


def row(params: SamplingParams, **changes) -> SampleRow:
    fields = {"row": 0, "seed": 1, "position": 0, "prompt_token_ids": (), "output_token_ids": [], **changes}
    return SampleRow(params=params, **fields)


def params(**changes) -> SamplingParams:
    return SamplingParams(max_tokens=1, **changes)


def tokens(logits: np.ndarray, rows: list[SampleRow]) -> list[int]:
    return sample(np.ascontiguousarray(logits, np.float32), rows).token_ids


# --- greedy and margins ---------------------------------------------------------------------------------------------
@given(st.integers(2, 700), st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_greedy_takes_the_first_of_the_best_and_margins_are_the_gap(vocab: int, count: int, seed: int) -> None:
    # Few distinct values, so that there are ties.
    logits = np.random.default_rng(seed).integers(-30, 30, (count, vocab)).astype(np.float32)
    result = sample(logits, [row(params(temperature=0))] * count)
    assert result.token_ids == logits.argmax(1).tolist()
    top = np.sort(logits, 1)[:, ::-1]
    assert result.margins == (top[:, 0] - top[:, 1]).tolist()
    assert result.logprobs == [None] * count


@pytest.mark.parametrize("bad", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 300, 1002])
def test_broken_logits_are_an_error_wherever_they_are(bad: float, place: int) -> None:
    logits = np.random.default_rng(0).normal(size=(3, 1003)).astype(np.float32)
    logits[2, place] = np.copysign(np.float32(math.nan), -1) if math.isnan(bad) and math.copysign(1, bad) < 0 else bad
    with pytest.raises(EngineError) as caught:
        sample(logits, [row(params())] * 3)
    assert caught.value.code == "bad_logits"


def test_margins_are_of_the_model_not_of_the_rules() -> None:
    logits = np.array([[3.0, 1.0, 0.0]], np.float32)
    ruled = row(params(temperature=0, logit_bias=((2, 100.0),)), banned_token_ids=(0,))
    result = sample(logits, [ruled])
    assert result.token_ids == [2]
    assert result.margins == [2.0]


def test_logprobs_are_of_the_model_with_the_best_first() -> None:
    logits = np.array([[1.0, 3.0, 3.0, -2.0, 0.5]], np.float32)
    asked = row(params(temperature=0, logprobs=3, logit_bias=((3, 50.0),)))
    (result,) = sample(logits, [asked]).logprobs
    expected = np.log(np.exp(logits[0].astype(np.float64)) / np.exp(logits[0].astype(np.float64)).sum())
    assert result is not None
    assert result[0] == pytest.approx(expected[3])
    assert [token for token, _ in result[1]] == [1, 2, 0]
    assert [logprob for _, logprob in result[1]] == pytest.approx(expected[[1, 2, 0]])
    (none,) = sample(logits, [row(params(temperature=0, logprobs=0))]).logprobs
    assert none == (pytest.approx(expected[1]), ())
    named = row(params(temperature=0, logprobs=0, logprob_token_ids=(4, 0)))
    (result,) = sample(logits, [named]).logprobs
    assert result == (pytest.approx(expected[1]), ((4, pytest.approx(expected[4])), (0, pytest.approx(expected[0]))))


# --- drawing --------------------------------------------------------------------------------------------------------
def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """Of the counts, in standard deviations of the chi-square distribution above its mean."""
    kept = probabilities > 0
    assert counts[~kept].sum() == 0
    expected = probabilities[kept] * counts.sum()
    statistic = ((counts[kept] - expected) ** 2 / expected).sum()
    freedom = int(kept.sum()) - 1
    return float((statistic - freedom) / math.sqrt(2 * freedom))


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


@pytest.mark.parametrize("along", ["position", "seed"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_tokens_follow_the_distribution(along: str, temperature: float) -> None:
    logits = np.random.default_rng(3).normal(size=40).astype(np.float32)
    draws = 20_000
    rows = [row(params(temperature=temperature), **{along: at}) for at in range(draws)]
    counts = np.bincount(tokens(np.tile(logits, (draws, 1)), rows), minlength=40)
    assert abs(chi_square(counts, softmax(logits / temperature))) < 4


def test_filtered_tokens_follow_the_renormalized_rest() -> None:
    logits = np.random.default_rng(4).normal(scale=2, size=60).astype(np.float32)
    draws = 20_000
    filtered = params(temperature=0.8, top_k=20, top_p=0.9)
    counts = np.bincount(
        tokens(np.tile(logits, (draws, 1)), [row(filtered, position=at) for at in range(draws)]), minlength=60
    )
    kept = logits >= tail_cut(logits, filtered)
    assert 2 < kept.sum() < 20
    assert abs(chi_square(counts, np.where(kept, softmax(np.where(kept, logits, -1e9) / 0.8), 0))) < 4


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**20), st.floats(0.05, 5), st.integers(1, 3000), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_the_shortcut_of_the_draw_changes_nothing(
    seed: int, position: int, temperature: float, vocab: int, data: int
) -> None:
    logits = np.random.default_rng(data).normal(scale=3, size=vocab).astype(np.float32)
    noise = np.empty(vocab)
    gumbel_noise(np.uint64(seed), np.uint64(position), noise)
    expected = int((logits.astype(np.float64) * (1.0 / temperature) + noise).argmax())
    assert tokens(logits[None], [row(params(temperature=temperature), seed=seed, position=position)]) == [expected]


def test_noise_is_gumbel_and_uncorrelated() -> None:
    noise = np.empty((64, 512))
    for position in range(64):
        gumbel_noise(np.uint64(7), np.uint64(position), noise[position])
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.03)
    assert noise.var() == pytest.approx(math.pi**2 / 6, abs=0.08)
    flat = noise.ravel()
    for lag in (1, 2, 511, 512, 513):
        assert abs(np.corrcoef(flat[:-lag], flat[lag:])[0, 1]) < 0.03


def test_a_row_depends_on_its_own_seed_and_position_alone() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(32, 900)).astype(np.float32)
    choices = [
        params(temperature=1.3),
        params(temperature=0.9, top_k=30),
        params(temperature=0),
        params(temperature=1.0, top_p=0.7, min_p=0.01),
        params(temperature=1.0, presence_penalty=1.5, logprobs=2),
    ]
    rows = [row(choices[at % 5], seed=at * 11, position=at, output_token_ids=[1, 2, 2]) for at in range(32)]
    together = sample(logits, rows)
    order = rng.permutation(32)
    shuffled = sample(np.ascontiguousarray(logits[order]), [rows[at] for at in order])
    for place, at in enumerate(order):
        alone = sample(logits[at : at + 1], [rows[at]])
        assert alone.token_ids == [together.token_ids[at]] == [shuffled.token_ids[place]]
        assert alone.margins == [together.margins[at]]
        assert alone.logprobs == [together.logprobs[at]]


# --- rules and filters against a naive reference --------------------------------------------------------------------
def naive_filter(logits: np.ndarray, chosen: SamplingParams) -> set[int]:
    probabilities = softmax(logits.astype(np.float64) / chosen.temperature)
    kept = {token for token, p in enumerate(probabilities) if p >= chosen.min_p * probabilities.max()}
    ranked = sorted(kept, key=lambda token: -logits[token])
    if chosen.top_k and chosen.top_k < len(logits):
        ranked = [token for token in ranked if logits[token] >= sorted(logits)[-chosen.top_k]]
    total, mass, nucleus = sum(probabilities[token] for token in ranked), 0.0, []
    for token in ranked:
        if mass < chosen.top_p * total or (nucleus and logits[token] == logits[nucleus[-1]]):
            nucleus.append(token)
            mass += probabilities[token]
    return set(nucleus)


@given(
    st.lists(st.integers(-40, 40), min_size=1, max_size=60),
    st.sampled_from([0, 1, 2, 5, 59, 1000]),
    st.sampled_from([0.001, 0.3, 0.77, 0.95, 1.0]),
    st.sampled_from([0.0, 0.0123, 0.2, 1.0]),
    st.sampled_from([0.37, 1.0, 2.1]),
)
@settings(max_examples=300, deadline=None)
def test_filters_keep_what_the_definitions_say(
    values: list[int], top_k: int, top_p: float, min_p: float, temperature: float
) -> None:
    logits = (np.array(values) * np.float32(0.137)).astype(np.float32)
    chosen = params(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    kept = set(np.flatnonzero(logits >= np.float32(tail_cut(logits, chosen))).tolist())
    assert kept == naive_filter(logits, chosen)


@given(
    st.lists(st.integers(0, 9), max_size=12),
    st.lists(st.integers(0, 9), max_size=12),
    st.floats(0.5, 2),
    st.floats(-2, 2),
    st.floats(-2, 2),
)
@settings(max_examples=100, deadline=None)
def test_penalties_biases_and_bans(
    prompt: list[int], output: list[int], repetition: float, frequency: float, presence: float
) -> None:
    logits = np.random.default_rng(1).normal(size=10).astype(np.float32)
    before = logits.copy()
    chosen = params(
        repetition_penalty=repetition,
        frequency_penalty=frequency,
        presence_penalty=presence,
        logit_bias=((3, 1.5), (4, -100.0)),
    )
    ruled = row(chosen, prompt_token_ids=tuple(prompt), output_token_ids=output, banned_token_ids=(5,))
    changed = change_logits(logits, ruled)
    assert (logits == before).all()
    for token in range(10):
        value = float(before[token])
        if token in prompt or token in output:
            value = value / repetition if value > 0 else value * repetition
        if token in output:
            value -= output.count(token) * frequency + presence
        value += {3: 1.5, 4: -100.0}.get(token, 0.0)
        assert changed[token] == (-math.inf if token == 5 else pytest.approx(value, rel=1e-5, abs=1e-5))


def test_only_allowed_tokens_are_drawn() -> None:
    logits = np.tile(np.array([9.0, 0.0, 0.0, 5.0], np.float32), (200, 1))
    allowed = params(temperature=1.0, allowed_token_ids=(1, 2))
    assert set(tokens(logits, [row(allowed, position=at) for at in range(200)])) == {1, 2}
    assert tokens(logits[:1], [row(params(temperature=0, allowed_token_ids=(2, 3)))]) == [3]


def test_bans_that_leave_nothing_of_what_is_allowed_are_passed_over() -> None:
    logits = np.array([[9.0, 0.0, 1.0]], np.float32)
    allowed = params(temperature=0, allowed_token_ids=(1, 2))
    assert tokens(logits, [row(allowed, banned_token_ids=(2,))]) == [1]
    assert tokens(logits, [row(allowed, banned_token_ids=(1, 2))]) == [2]


def test_bad_words_are_banned_where_they_would_be_completed() -> None:
    logits = np.array([[0.0, 9.0, 3.0]], np.float32)
    bad = {"params": params(temperature=0), "bad_words": ((0, 1),)}
    assert tokens(logits, [row(**bad, output_token_ids=[2, 0])]) == [2]
    assert tokens(logits, [row(**bad, output_token_ids=[0, 2])]) == [1]


def test_a_banned_token_is_never_drawn() -> None:
    logits = np.tile(np.array([9.0, 0.0, 0.0], np.float32), (200, 1))
    rows = [row(params(temperature=5.0), position=at, banned_token_ids=(0,)) for at in range(200)]
    assert set(tokens(logits, rows)) == {1, 2}


@pytest.mark.parametrize(
    "changes", [{}, {"temperature": 0}, {"logit_bias": ((0, 100.0),)}, {"allowed_token_ids": (0,)}]
)
def test_a_forced_token_comes_whatever_other_rules_say(changes: dict) -> None:
    cap = CapState(ReasoningCap(2, PRESETS["think"], (2,), opened=True), lambda _: b"x")
    cap.advance([0])
    ruled = row(params(logprobs=1, **changes), cap=cap, output_token_ids=[0], banned_token_ids=(2,))
    free = row(params(logprobs=1, **changes), output_token_ids=[0])
    assert not chosen_by_device(ruled)
    result = sample(np.array([[3.0, 1.0, 0.0]] * 2, np.float32), [ruled, free])
    assert result.token_ids[0] == 2
    assert result.margins == [math.inf, 2.0]
    assert result.logprobs[0] is not None
    assert result.logprobs[0][1][0][0] == 0, "the alternatives are the model's own"
