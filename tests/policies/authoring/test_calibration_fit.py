"""Fitting a calibration: its thresholds keep shares and accuracy on new prompts."""

import datetime as dt
import math
from pathlib import Path
from random import Random
from statistics import pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model.calibration import Calibration, CalibrationData, read_calibration
from policies.authoring.calibration_fit import Scored, encode_calibration, fit
from policies.cascade.calibration import probability_right, threshold_for_accuracy, threshold_for_share


def world(seed: int, count: int) -> list[Scored]:
    """A small model whose score is related to its accuracy, and a large one that is right nine times in ten."""
    rng = Random(seed)
    scores = [rng.random() * 8 for _ in range(count)]
    return [Scored(score, rng.random() < 1 - math.exp(-score / 2), rng.random() < 0.9) for score in scores]


def calibrated(scored: list[Scored]) -> Calibration:
    found = fit(scored)
    return Calibration(
        name="test",
        created=dt.date(2026, 3, 1),
        statistic="min_margin",
        small="small",
        large="large",
        small_digest="a" * 64,
        large_digest="b" * 64,
        data=CalibrationData("c" * 64, len(scored), "drawn"),
        labels="labelled",
        rows=found.rows,
        small_accuracy=found.small_accuracy,
        large_accuracy=found.large_accuracy,
        isotonic=found.isotonic,
        error=found.error,
    )


def share_below(scored: list[Scored], threshold: float) -> float:
    return sum(each.score < threshold for each in scored) / len(scored)


def accuracy(scored: list[Scored], threshold: float) -> float:
    right = sum(each.large_right if each.score < threshold else each.small_right for each in scored)
    return right / len(scored)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.25, 0.5, 0.9, 0.999, 1.0])
def test_a_share_is_kept_on_the_same_and_on_fresh_prompts(share: float) -> None:
    seen = world(1, 4000)
    threshold = threshold_for_share(calibrated(seen), share)
    assert share_below(seen, threshold) == pytest.approx(share, abs=0.001)
    assert share_below(world(2, 4000), threshold) == pytest.approx(share, abs=0.03)


def test_both_ends_hold_for_scores_never_seen() -> None:
    calibration = calibrated(world(1, 100))
    assert threshold_for_share(calibration, 0) == -math.inf
    assert threshold_for_share(calibration, 1) == math.inf


scored_lists = st.lists(
    st.builds(Scored, st.integers(0, 30).map(lambda n: n / 3), st.booleans(), st.booleans()), min_size=10, max_size=80
)


@given(scored_lists)
def test_every_row_is_what_its_threshold_does(scored: list[Scored]) -> None:
    found = fit(scored)
    for row in found.rows:
        assert row.large_share == pytest.approx(share_below(scored, row.threshold))
        assert row.accuracy == pytest.approx(accuracy(scored, row.threshold))
        behind = [e.large_right - (e.large_right if e.score < row.threshold else e.small_right) for e in scored]
        assert row.lag_error == pytest.approx(pstdev(behind) / len(scored) ** 0.5, abs=1e-9)
    assert (found.rows[0].large_share, found.rows[-1].large_share) == (0, 1)
    assert found.rows[0].accuracy == pytest.approx(found.small_accuracy)
    assert found.rows[-1].accuracy == pytest.approx(found.large_accuracy)


@given(scored_lists, st.floats(0, 1), st.floats(0, 1))
def test_more_to_the_large_model_takes_a_higher_threshold(scored: list[Scored], one: float, other: float) -> None:
    calibration = calibrated(scored)
    low, high = sorted((one, other))
    assert threshold_for_share(calibration, low) <= threshold_for_share(calibration, high)


@given(scored_lists, st.floats(0.5, 1))
def test_an_accuracy_is_reached(scored: list[Scored], fraction: float) -> None:
    calibration = calibrated(scored)
    threshold = threshold_for_accuracy(calibration, fraction)
    assert accuracy(scored, threshold) >= fraction * calibration.large_accuracy - 1e-12


def test_an_accuracy_is_mostly_kept_on_fresh_prompts() -> None:
    kept = 0
    for seed in range(40):
        threshold = threshold_for_accuracy(calibrated(world(seed, 600)), 0.95)
        fresh = world(1000 + seed, 4000)
        kept += accuracy(fresh, threshold) >= 0.95 * sum(each.large_right for each in fresh) / len(fresh)
    assert kept >= 28


def test_an_accuracy_takes_no_more_than_it_needs() -> None:
    calibration = calibrated(world(1, 4000))
    shares = [share_below(world(1, 4000), threshold_for_accuracy(calibration, f)) for f in (0.85, 0.95, 0.99, 1)]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] < 1


def test_probabilities_are_about_right_on_fresh_prompts() -> None:
    calibration = calibrated(world(1, 4000))
    assert calibration.error.expected_calibration_error < 0.03
    fresh = [each for each in world(2, 20_000) if 2 < each.score < 2.2]
    assert probability_right(calibration, 2.1) == pytest.approx(
        sum(e.small_right for e in fresh) / len(fresh), abs=0.08
    )


def test_the_error_is_not_measured_on_the_prompts_of_the_fit() -> None:
    """With uninformative scores, a fit would look well calibrated on its own prompts."""
    rng = Random(3)
    noise = [Scored(rng.random(), rng.random() < 0.5, True) for _ in range(60)]
    assert calibrated(noise).error.brier > 0.25


def test_too_few_or_strange_scores() -> None:
    with pytest.raises(ValueError, match="too few"):
        fit(world(1, 9))
    with pytest.raises(ValueError, match="finite"):
        fit([*world(1, 20), Scored(math.inf, True, True)])


def test_a_file_is_read_back_unchanged(tmp_path: Path) -> None:
    calibration = calibrated(world(1, 300))
    path = tmp_path / "calibration.json"
    path.write_bytes(encode_calibration(calibration))
    assert read_calibration(path) == calibration
    lines = path.read_text().splitlines()
    assert sum('"threshold"' in line and '"accuracy"' in line for line in lines) == len(calibration.rows)
