"""The work of checking a policy grows linearly with its size, measured in function calls and not in time."""

import sys
from types import FrameType

import pytest

from benchmarks.policies.check import SHAPES, check, policy

SIZE = 60
SQUARE = 4.0


def calls(shape: str, size: int) -> int:
    count = 0

    def on_event(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    text = policy(shape, size)
    sys.setprofile(on_event)
    try:
        check(text)
    finally:
        sys.setprofile(None)
    return count


BOUNDED = {"misspelled names"}
"""The search for suggestions is limited, which has an effect only in larger policies than a test should check."""


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in BOUNDED])
def test_twice_the_policy_takes_about_twice_the_work(shape: str) -> None:
    assert calls(shape, 2 * SIZE) / calls(shape, SIZE) < (2 + SQUARE) / 2
