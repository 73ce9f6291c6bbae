"""Names with * as a wildcard."""

import pytest

from config.model.wildcard import fits

CASES = [
    ("small", "small", True),
    ("small", "Small", False),
    ("small-2", "small*", True),
    ("small", "small*", True),
    ("a small", "small*", False),
    ("a-b-c", "a*c", True),
    ("anything", "*", True),
    ("abc", "a?c", False),
    ("ab", "a[bc]", False),
    ("a[bc]", "a[bc]", True),
    ("a?c", "a?c", True),
    ("", "*", True),
]


@pytest.mark.parametrize(("name", "wildcard", "fit"), CASES)
def test_what_fits(name: str, wildcard: str, fit: bool) -> None:
    assert fits(name, wildcard) is fit
