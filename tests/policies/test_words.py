"""Words that the policy language knows are those that the project means."""

from config.model.words import ADDRESSES, LANGUAGES, STATIC_ANSWER
from policies.authoring import decision
from policies.routing.language import language
from tests.paths import ROOT


def test_languages_are_those_that_are_told_apart() -> None:
    messages = (ROOT / "tests/policies/short_messages.tsv").read_text().splitlines()
    assert set(LANGUAGES) == {language(message.split("\t")[1]) for message in messages}


def test_addresses_are_those_at_which_requests_arrive() -> None:
    routes = (ROOT / "gateway/endpoints/routes.py").read_text()
    for address in ADDRESSES:
        assert f'b"{address}"' in routes
    assert routes.count('b"/v1/') == len(ADDRESSES)


def test_a_text_of_a_ladder_has_one_name() -> None:
    assert STATIC_ANSWER == decision.STATIC_ANSWER
