"""Complexity, keys, hysteresis, drain rate and the sliding window."""

import hashlib
import math
import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model.tenancy import KeySettings
from policies.admission.keys import RANDOM_BYTES, KeyRing, hash_key, new_key
from policies.admission.sliding_window import SlidingWindow
from policies.errors import IntegrityError
from policies.queueing.drain_rate import DrainRate
from policies.routing.complexity import LOOKED_AT_CHARS, complexity, complexity_terms
from policies.routing.hysteresis import Hysteresis

# --- complexity ---------------------------------------------------------------------------------------------------


def test_clearly_different_prompts_are_ordered() -> None:
    code = "Write a function. It must be exactly O(n), without recursion.\n```\ndef f(x): return {x: [x]};\n```\n" * 5
    ladder = [
        "hi",
        "What is 17 + 25?",
        "Compare these two plans, step by step, and explain why one must not exceed 1200 units of 40 each.",
        code,
    ]
    scores = [complexity(text) for text in ladder]
    assert scores == sorted(scores)
    assert len(set(scores)) == len(scores)
    assert scores[0] < 0.1
    assert scores[-1] > 0.8


@settings(deadline=None)
@given(st.text(max_size=300), st.integers(-1, 100))
def test_a_score_is_a_share(text: str, turns: int) -> None:
    assert 0 < complexity(text, turns) < 1


@given(st.text(max_size=300), st.integers(-1, 100))
def test_the_terms_are_the_score(text: str, turns: int) -> None:
    terms = complexity_terms(text, turns)
    assert complexity(text, turns) == 1 / (1 + math.exp(-sum(term.adds for term in terms)))


def test_the_terms_explain_the_score() -> None:
    terms = {term.word: term.adds for term in complexity_terms("Explain ```x``` 123456, without a must", 3)}
    assert {word for word, adds in terms.items() if adds > 0} == set(terms) - {"begin"}
    plain = {term.word: term.adds for term in complexity_terms("hello there")}
    assert {word for word, adds in plain.items() if adds} == {"begin", "length"}


def test_later_turns_count_and_long_texts_cost_no_more() -> None:
    assert complexity("and now?", 5) > complexity("and now?", 1)
    assert complexity("word " * 10**5) > complexity("word " * 1000)

    def cost(text: str) -> float:
        return min(timeit.repeat(lambda: complexity(text), number=20, repeat=5))

    assert cost("x" * LOOKED_AT_CHARS * 500) < 5 * cost("x" * LOOKED_AT_CHARS)


# --- keys -----------------------------------------------------------------------------------------------------------


def test_only_the_new_key_authenticates() -> None:
    made = new_key("acme", bytes(range(RANDOM_BYTES)))
    ring = KeyRing([made.settings])
    assert ring.authenticate(made.raw) == "acme"
    assert made.settings.hash == hashlib.sha256(made.raw.encode()).hexdigest() == hash_key(made.raw)
    assert made.raw not in repr(made)
    for wrong in (
        "",
        made.raw[:-1],
        made.raw + "A",
        made.raw.upper(),
        "penstock_" + made.settings.id + "_",
        "é" * 999,
        "\ud800",
    ):
        assert ring.authenticate(wrong) is None


def test_an_unknown_key_authenticates_no_tenant() -> None:
    empty = KeyRing([])
    assert empty.authenticate("") is None
    assert empty.authenticate("penstock__") is None
    assert len(empty) == 0
    assert KeyRing([KeySettings(id="x", tenant="", hash=hash_key("penstock_x_y"))]).authenticate("penstock_x_y") is None


def test_a_key_with_a_suffix_is_another_key() -> None:
    longest = "penstock_x_" + "s" * 245
    ring = KeyRing([KeySettings(id="x", tenant="acme", hash=hash_key(longest))])
    assert ring.authenticate(longest) == "acme"
    assert ring.authenticate(longest + "s") is None


def test_a_key_may_have_a_name() -> None:
    made = new_key("acme", bytes(RANDOM_BYTES), key_id="app-1")
    assert made.raw.startswith("penstock_app-1_")
    assert KeyRing([made.settings]).authenticate(made.raw) == "acme"
    with pytest.raises(ValueError, match="no key id"):
        new_key("acme", bytes(RANDOM_BYTES), key_id="a_b")


def test_keys_need_enough_random_bytes() -> None:
    with pytest.raises(ValueError, match="38 random bytes"):
        new_key("acme", b"short")
    assert new_key("a", bytes(38)).raw != new_key("a", bytes(37) + b"\1").raw


@settings(deadline=None)
@given(st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES))
def test_every_key_is_read_back(random_bytes: bytes) -> None:
    made = new_key("acme", random_bytes)
    assert KeyRing([made.settings]).authenticate(made.raw) == "acme"


# --- hysteresis -----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.4, 0.5, 0.7, 0.8, 1.0]), st.sampled_from([0.0, 1.0, 5.0])), max_size=60)
)
def test_a_switch_has_hysteresis_and_dwell(steps: list[tuple[float, float]]) -> None:
    switch = Hysteresis(0.8, 0.5, 5.0)
    now = on_at = 0.0
    was = False
    for value, passed in steps:
        now += passed
        on = switch.update(value, now)
        if on and not was:
            assert value >= 0.8
            on_at = now
        elif was and not on:
            assert value < 0.5
            assert now - on_at >= 5.0
        elif was:
            assert value >= 0.5 or now - on_at < 5.0
        else:
            assert value < 0.8
        was = on


def test_release_above_enter_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be above"):
        Hysteresis(0.5, 0.8, 1.0)


# --- drain rate -----------------------------------------------------------------------------------------------------


def test_a_steady_rate_is_measured() -> None:
    rate = DrainRate()
    assert rate.retry_after_s(5, 0.0) == 1.0
    rate.resume(0.0)
    for step in range(400):
        rate.served(1, step * 0.1)
    assert rate.rate(40.0) == pytest.approx(10, rel=0.05)
    assert rate.retry_after_s(20, 40.0) == pytest.approx(2, rel=0.05)
    assert rate.retry_after_s(10**6, 40.0) == 60.0
    assert rate.retry_after_s(0, 40.0) == 0.1


def test_a_stalled_queue_has_longer_waits_and_an_idle_one_keeps_its_rate() -> None:
    stalled, idle = DrainRate(), DrainRate()
    stalled.resume(0.0)
    idle.resume(0.0)
    for step in range(400):
        stalled.served(1, step * 0.1)
        idle.served(1, step * 0.1)
    assert stalled.wait_s(10, 80.0) == pytest.approx(40, rel=0.5)
    assert stalled.retry_after_s(10, 10**5) == 60.0
    idle.pause(39.95)
    idle.served(1000, 50.0)
    idle.resume(80.0)
    assert idle.wait_s(10, 80.0) == pytest.approx(1, rel=0.1)


def test_a_very_short_first_interval_is_not_extrapolated() -> None:
    rate = DrainRate()
    rate.resume(0.0)
    rate.served(1, 0.0)
    rate.served(1, 0.001)
    assert rate.rate(0.001) <= 8


# --- sliding window -------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 9), st.integers(0, 9)), max_size=40), st.integers(1, 30))
def test_a_window_keeps_amounts_neither_too_short_nor_too_long(steps: list[tuple[float, int, int]], limit: int) -> None:
    window = SlidingWindow(10.0, 1.0)
    added: list[tuple[float, int]] = []
    now = 0.0
    for passed, amount, less in steps:
        now += passed
        handle = window.add(amount, now)
        window.correct(handle, -min(less, amount))
        added.append((now, amount - min(less, amount)))
        window.check_integrity()
        counted = window.sum(now)
        assert counted >= sum(amount for at, amount in added if at > now - 10)
        assert counted <= sum(amount for at, amount in added if at > now - 11)
        wait_s = window.fits_in_s(1, limit, now)
        assert wait_s is not None
        assert (wait_s == 0) == (counted + 1 <= limit)
    if added:
        wait_s = window.fits_in_s(limit, limit, now)
        assert wait_s is not None
        assert window.sum(now + wait_s) + limit <= limit
    assert window.fits_in_s(limit + 1, limit, now) is None


def test_a_late_correction_changes_nothing() -> None:
    window = SlidingWindow(10.0, 1.0)
    old = window.add(5, 0.0)
    assert window.sum(20.0) == 0
    window.correct(old, -5)
    assert window.sum(20.0) == 0
    window._sum = 3
    with pytest.raises(IntegrityError):
        window.check_integrity()
