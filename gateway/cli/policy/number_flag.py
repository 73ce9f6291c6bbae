"""Numbers on the command line with bounds, as types of `argparse`: a value that is out of range ends with status 2."""

import argparse
from collections.abc import Callable
from typing import TypeVar

from config.model.bounds import Bound, is_64_bit

AT_LEAST_1 = Bound(1)
N = TypeVar("N", int, float)
SEED = Bound(-(2**63))


def whole(bound: Bound) -> Callable[[str], int]:
    """A whole number within the bound."""
    return lambda text: _within(bound, text, int, "a whole number")


def real(bound: Bound) -> Callable[[str], float]:
    """A finite number within the bound."""
    return lambda text: _within(bound, text, float, "a number")


def _within(bound: Bound, text: str, kind: Callable[[str], N], expected: str) -> N:
    try:
        value = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}") from None
    if not bound.allows(value) or (isinstance(value, int) and not is_64_bit(value)):
        raise argparse.ArgumentTypeError(f"{text} is out of range; expected {bound}")
    return value
