"""The share of code in a text."""

from hypothesis import given
from hypothesis import strategies as st

from policies.routing.code_share import code_density


def test_code_is_a_share_of_the_lines() -> None:
    program = "def f(x):\n    y = x + 1\n    return g(y)\n"
    assert code_density(program) == 1.0
    assert code_density("Please look at this.\nIt does not work for me.\n") == 0.0
    assert 0.3 < code_density("Why does this fail?\nI am lost here.\n" + program) < 0.8
    assert code_density("Explain:\n```\nanything at all\n```") > 0.2


@given(st.text(max_size=400))
def test_any_text_has_a_share(text: str) -> None:
    assert 0 <= code_density(text) <= 1
