"""The names in the policy language are those that the other modules define."""

import re
from typing import get_args

from config.model.words import ADDRESSES, LANGUAGES, STATIC_ANSWER
from gateway.endpoints.vectors.scoring import SCORING
from policies.authoring import decision
from policies.model.plan import Degraded, PlannedRung
from policies.routing.language import language
from tests.paths import ROOT

UNPLANNED = {"/tokenize", "/v1/tokenize", "/detokenize", "/v1/detokenize"}
"""Addresses whose requests have no route: they name the model whose tokenizer is meant."""


def test_languages_are_those_that_are_identified() -> None:
    messages = (ROOT / "tests/policies/short_messages.tsv").read_text().splitlines()
    assert set(LANGUAGES) == {language(message.split("\t")[1]) for message in messages}


def test_paths_are_those_at_which_requests_arrive() -> None:
    routes = (ROOT / "gateway/endpoints/routes.py").read_text()
    written = {*re.findall(r'b"(/[a-z0-9_/]+)": \(', routes), *SCORING}
    assert written - UNPLANNED == set(ADDRESSES)
    assert written >= UNPLANNED


def test_a_static_answer_has_one_name() -> None:
    assert STATIC_ANSWER == decision.rung_name(PlannedRung(to=None, answer="Sorry.")) == "static_answer"
    assert STATIC_ANSWER in get_args(Degraded)
