"""The metrics of deferral statistics, compared with hand-made cases, another implementation, and their bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.authoring.deferral_curve import Curve, Curves, deferral_curves


def curves(outcomes: list[tuple[bool, bool]], scores: list[float], resamples: int = 20) -> Curves:
    return deferral_curves(outcomes, {"mine": scores}, np.random.default_rng(1), resamples)


def named(found: Curves, name: str) -> Curve:
    return next(curve for curve in found.curves if curve.name == name)


def world(right: list[float], wrong: list[float]) -> tuple[list[tuple[bool, bool]], list[float]]:
    """The large model is always right. `right`, `wrong`: scores of the small model's right and wrong answers."""
    return [(True, True)] * len(right) + [(False, True)] * len(wrong), right + wrong


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [([5, 6], [1, 2], 1.0), ([1, 2], [5, 6], 0.0), ([3, 3], [3, 3], 0.5), ([1, 4], [2, 3], 0.5), ([2], [], 0.5)],
)
def test_auroc(right: list[float], wrong: list[float], expected: float) -> None:
    assert curves(*world(right, wrong)).auroc.value == pytest.approx(expected)


def test_a_perfect_statistic_is_the_oracle() -> None:
    found = curves(*world([5, 6, 7], [1, 2]))
    mine, oracle = named(found, "mine"), named(found, "oracle")
    assert mine.accuracy == oracle.accuracy
    assert (mine.normalised.value, mine.oracle_part.value) == pytest.approx((1, 1))
    # The lead is recovered evenly over the first two of five questions: 1 - (2 / 5) / 2.
    assert mine.apgr.value == pytest.approx(0.8)
    assert (mine.cpt50.value, mine.cpt80.value) == pytest.approx((0.2, 0.32))


def test_a_hand_made_curve() -> None:
    outcomes = [
        (True, False),
        (False, True),
        (False, True),
        (True, True),
    ]
    mine = named(curves(outcomes, [1, 2, 3, 4]), "mine")
    assert [mine.accuracy[share] for share in (0, 25, 50, 75, 100)] == pytest.approx([0.5, 0.25, 0.5, 0.75, 0.75])
    # By trapezoids: (.375 + .375 + .625 + .75) / 4, and the lead is a quarter.
    assert mine.auc.value == pytest.approx(0.53125)
    assert mine.apgr.value == pytest.approx((0.53125 - 0.5) / 0.25)
    assert mine.cpt50.value == pytest.approx(0.5 + 0.25 / 2)


scored = st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.booleans()), min_size=1, max_size=30)


@given(scored)
def test_ties_count_as_the_mean_of_their_orders(found: list[tuple[int, bool, bool]]) -> None:
    outcomes = [(small, large) for _, small, large in found]
    scores = [float(score) for score, _, _ in found]
    auc = named(curves(outcomes, scores, 1), "mine").auc.value
    gain = [large - small for _, small, large in found]
    # A question's gain counts for all shares after it: 1 minus its mean position, in the middle of its ties.
    places = [(sum(s < score for s in scores) + sum(s == score for s in scores) / 2) / len(scores) for score in scores]
    expected = sum(small for small, _ in outcomes) / len(outcomes)
    expected += sum(g * (1 - place) for g, place in zip(gain, places, strict=True)) / len(outcomes)
    assert auc == pytest.approx(expected)


@given(scored)
def test_every_curve_goes_from_the_small_model_to_the_large_one_below_the_oracle(
    found: list[tuple[int, bool, bool]],
) -> None:
    outcomes = [(small, large) for _, small, large in found]
    verdict = curves(outcomes, [float(score) for score, _, _ in found], 1)
    oracle = named(verdict, "oracle")
    for curve in verdict.curves:
        assert curve.accuracy[0] == pytest.approx(verdict.small_accuracy.value)
        assert curve.accuracy[-1] == pytest.approx(verdict.large_accuracy.value)
        assert all(mine <= best + 1e-9 for mine, best in zip(curve.accuracy, oracle.accuracy, strict=True))
    assert named(verdict, "chance").apgr.value == pytest.approx(0.5)


def drawn(seed: int, count: int) -> tuple[list[tuple[bool, bool]], list[float]]:
    rng = np.random.default_rng(seed)
    scores = rng.random(count)
    right = rng.random(count) < scores
    return [(bool(each), bool(rng.random() < 0.9)) for each in right], scores.tolist()


def test_an_interval_contains_the_value_on_new_questions_and_narrows_with_more() -> None:
    truth = named(curves(*drawn(1, 100_000), 1), "mine").normalised.value
    few, many = (named(curves(*drawn(2, count), 300), "mine").normalised for count in (200, 3000))
    for interval in (few, many):
        assert interval.low < interval.value < interval.high
        assert interval.low < truth < interval.high
    assert many.high - many.low < (few.high - few.low) / 2


def test_the_same_generator_gives_the_same_intervals() -> None:
    assert curves(*drawn(3, 200)) == curves(*drawn(3, 200))


def test_the_table_names_every_curve() -> None:
    table = curves(*drawn(4, 100)).table()
    assert all(name in table for name in ("mine", "chance", "oracle", "always small", "always large"))


def test_what_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="takes questions"):
        curves([], [])
    with pytest.raises(ValueError, match="not a number"):
        curves([(True, True)], [float("nan")])
