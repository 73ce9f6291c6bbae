"""Code and language at a glance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.text_traits import code_density, language


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "und"),
        ("What is the capital of the country that you are in, and how is it for you?", "en"),
        ("Wie heißt die Stadt, in der du wohnst, und was ist dort nicht schön?", "de"),
        ("Pourquoi est-ce que le chat est dans la maison et pas sur le toit ?", "fr"),
        ("¿Cómo se llama el río que pasa por la ciudad?", "es"),
        ("今日の天気はどうですか", "ja"),
        ("今天天气怎么样", "zh"),
        ("Какая сегодня погода?", "ru"),
        ("12 34 56", "und"),
        ("xqzt brrp", "und"),
    ],
)
def test_languages(text: str, code: str) -> None:
    assert language(text) == code


def test_code_is_a_share_of_the_lines() -> None:
    program = "def f(x):\n    y = x + 1\n    return g(y)\n"
    assert code_density(program) == 1.0
    assert code_density("Please look at this.\nIt does not work for me.\n") == 0.0
    assert 0.3 < code_density("Why does this fail?\nI am lost here.\n" + program) < 0.8
    assert code_density("Explain:\n```\nanything at all\n```") > 0.2


@given(st.text(max_size=400))
def test_any_text_has_a_share_and_a_language(text: str) -> None:
    assert 0 <= code_density(text) <= 1
    assert len(language(text)) in {2, 3}
