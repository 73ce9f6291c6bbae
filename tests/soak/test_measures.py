"""Whether a soak finds what grows."""

import os

import pytest

from tests.soak.measures import Holding, complaints, growth, holding

MB = 1 << 20
REST = Holding(100 * MB, 20, 8)


def load(*megabytes: int) -> list[Holding]:
    return [Holding(each * MB, 30, 8) for each in megabytes]


def test_what_does_not_grow_is_good() -> None:
    assert complaints(REST, REST, load(*[120, 121, 119, 122, 120] * 4)) == []
    assert growth(load(*[120] * 13, 500, 120)) == 0, "one measure is no growth"


@pytest.mark.parametrize(
    ("after", "under_load", "word"),
    [
        (REST, load(*range(100, 120)), "resident memory grew by"),
        (Holding(100 * MB, 21, 8), load(100), "1 descriptors were left"),
        (Holding(100 * MB, 20, 10), load(100), "2 threads were left"),
    ],
)
def test_what_grows_is_found(after: Holding, under_load: list[Holding], word: str) -> None:
    (found,) = complaints(REST, after, under_load)
    assert word in found


def test_the_kernel_is_asked() -> None:
    found = holding(os.getpid())
    assert found.resident_bytes > MB
    assert found.descriptors > 2
    assert found.threads >= 1
