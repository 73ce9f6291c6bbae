"""Scores of what an engine has made of the prompts."""

import struct

import pytest

from gateway.vllm.asked_scores import compared_texts


def asked(*, reads_pairs: bool):
    return compared_texts(
        "judge", ["q"], ["a", "b"], param="documents", reads_pairs=reads_pairs, max_inputs=9, user=None
    )


def test_a_classifiers_are_its_own() -> None:
    made = [struct.pack("<f", 0.25), struct.pack("<f", -3.0)]
    assert asked(reads_pairs=True).scores(made) == [[0.25], [-3.0]]


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        ([(2.0, 0.0), (3.0, 0.0), (0.0, 1.0)], [1.0, 0.0]),
        ([(1.0, 0.0), (-5.0, 0.0), (1.0, 1.0)], [-1.0, 0.5**0.5]),
        ([(0.0, 0.0), (1.0, 0.0), (0.0, 0.0)], [0.0, 0.0]),
    ],
)
def test_an_embedding_models_are_cosines(vectors: list[tuple[float, float]], expected: list[float]) -> None:
    made = [struct.pack("<2f", *each) for each in vectors]
    assert [score for (score,) in asked(reads_pairs=False).scores(made)] == pytest.approx(expected)
