"""Languages of short messages: how many are identified, and that the others are unknown instead of wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model.words import LANGUAGES
from policies.routing.language import language
from tests.paths import ROOT

MESSAGES = [line.split("\t") for line in (ROOT / "tests/policies/short_messages.tsv").read_text().splitlines()]
"""Ten messages to a shop in every language that a policy can name, and ten in none."""
RIGHT = 0.95
OTHERS = """
Hvor er min pakke?|Hvordan nulstiller jeg min adgangskode?|Hvordan tilbakestiller jeg passordet?|Missä pakettini on?
Де моя посилка?|Як скинути пароль?|Къде е пратката ми?|بسته من کجاست؟|میرا پارسل کہاں ہے؟|Kde je můj balík?
Unde este coletul meu?|Hol van a csomagom?|On és el meu paquet?|Di mana paket saya?|Bưu kiện của tôi ở đâu?
"""
"""Messages in languages that no policy can name."""


def test_the_messages_are_balanced() -> None:
    assert {code: sum(each == code for each, _ in MESSAGES) for code in LANGUAGES} == dict.fromkeys(LANGUAGES, 10)


def test_nearly_all_short_messages_are_detected_and_hardly_any_wrongly() -> None:
    told = [(code, language(text)) for code, text in MESSAGES]
    assert sum(code == found for code, found in told) / len(told) >= RIGHT
    assert sum(found not in {code, "und"} for code, found in told) <= 1


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_language_is_detected_badly(code: str) -> None:
    assert sum(language(text) == code for each, text in MESSAGES if each == code) >= 7


@pytest.mark.parametrize("text", OTHERS.strip().replace("\n", "|").split("|"))
def test_a_language_that_no_policy_can_name_is_unknown(text: str) -> None:
    assert language(text) == "und"


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


@given(st.text(max_size=400))
def test_any_text_has_a_language(text: str) -> None:
    assert language(text) in LANGUAGES
