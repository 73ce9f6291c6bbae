"""Differences between two policy files, as text."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.load import parse_settings
from config.model.conditions import SignalSettings
from config.model.routing import Defer, Target
from config.model.settings import Settings
from policies.authoring.settings_diff import SettingChange, settings_diff
from policies.routing.policy import digest_of
from tests.policies.authoring.test_counterfactual import CONDITIONS, with_routes
from tests.policies.authoring.test_explanation import POLICY
from tests.policies.cascade.test_calibration import CALIBRATION


def read(text: str) -> Settings:
    return parse_settings(text, Path("/etc/x.toml"))


def words(before: str, after: str) -> list[str]:
    return [str(change) for change in settings_diff(read(before), read(after))]


CHANGES = [
    ('ttft = "2s", stall', 'ttft = "1500ms", stall', ["route support-chat: deadlines.ttft 2s → 1.5s"]),
    ("threshold = 0.46", "threshold = 0.3", ["cascade thrifty: defer.threshold 0.46 → 0.3"]),
    ("priority = 10", "priority = 9", ["tier interactive: priority 10 → 9"]),
    ("amount = 50.0", "amount = 40", ["tenant acme: budget.amount 50 → 40"]),
    ('budget = { amount = 50.0, per = "day", when_spent = "small_only" }', "", [
        "tenant acme: budget { amount = 50, when_spent = small_only } → not set"
    ]),
    ("at_least = 4_000", "at_least = 3_000", ["signal long: prompt_tokens.at_least 4000 → 3000"]),
    ('owner = "team-support"', 'owner = "us"', ["route support-chat: owner team-support → us"]),
    ("retries = 1\n", "retries = 2\n", ["ladder safe: large.retries 1 → 2"]),
    ('[[ladders.safe]]\nto = "small"\nmark = "degraded"\n', "", [
        ("ladder safe: rungs large, small, answer 'All models are busy. Please try again in a moment.' → large, answer "
        "'All models are busy. Please try again in a moment.'")
    ]),
    ('from = "22:00"', 'from = "21:30"', ["route nights: when.time.from 22:00 → 21:30"]),
    ('tag = ["support"]', 'tag = ["support", "vip"]', ["route support-chat: when.tag [support] → [support, vip]"]),
    ('model = "m/small"', 'model = "m/tiny"', ["engine small: model small → tiny"]),
    ("arms = { control = 50, cheaper = 50 }", "arms = { control = 90, cheaper = 10 }", [
        "experiment cheaper-support: arms.control 50 → 90",
        "experiment cheaper-support: arms.cheaper 50 → 10",
    ]),
    ("[tenants.bob]", "[tenants.bert]", ["tenant bob: gone", "tenant bert: new: { tier = batch }"]),
    ("input = 0.1, output", "input = 0.3, output", ["price of small: input 0.1 → 0.3"]),
    ("[models.chat]", "[retry_budget]\nshare = 0.5\n[models.chat]", ["retry_budget: share 0.2 → 0.5"]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), CHANGES)
def test_the_texts(old: str, new: str, expected: list[str]) -> None:
    assert old in POLICY
    assert words(POLICY, POLICY.replace(old, new, 1)) == expected


def test_routes_come_go_and_move() -> None:
    head, *routes = POLICY.split("[[routes]]")
    last, rest = routes[2].split("[cascades.thrifty]")
    support, nights = routes[:2]
    moved = "[[routes]]".join([head, nights, support, last + "[cascades.thrifty]" + rest])
    assert words(POLICY, moved) == ["route support-chat: moved from number 1 to number 2"] or words(POLICY, moved) == [
        "route nights: moved from number 2 to number 1"
    ]
    new = support.replace("support-chat", "more").replace('["support"]', '["more"]')
    grown = "[[routes]]".join([head, support, new, last + "[cascades.thrifty]" + rest])
    assert words(POLICY, grown) == ["route nights: gone", "route more: new: as number 2 of 3"]


def test_secrets_are_not_shown() -> None:
    key = '[[keys]]\nid = "k"\ntenant = "acme"\nhash = "%s"\n'
    old, new = POLICY + key % ("0" * 64), POLICY + key % ("1" * 64)
    assert words(old, new) == ["key k: hash *** → ***"]
    assert [change.decides for change in settings_diff(read(old), read(new))] == [False]


def test_a_threshold_that_follows_is_reported() -> None:
    base = read(POLICY)

    def with_share(share: float) -> Settings:
        thrifty = msgspec.structs.replace(
            base.cascades["thrifty"], defer=Defer(artefact=CALIBRATION), target=Target(large_share=share)
        )
        return msgspec.structs.replace(base, cascades={"thrifty": thrifty})

    assert list(map(str, settings_diff(with_share(0.5), with_share(0.2)))) == [
        "cascade thrifty: target.large_share 0.5 → 0.2",
        "cascade thrifty: so the threshold goes 1.5 → 0.5",
    ]


POLICIES = st.builds(
    with_routes,
    st.lists(CONDITIONS, min_size=1, max_size=3),
    st.none() | CONDITIONS,
    st.sampled_from(["refuse", "downgrade", "small_only"]),
)


@settings(max_examples=80, deadline=None)
@given(before=POLICIES, after=POLICIES, shuffled=st.randoms())
def test_every_difference_is_reported(before: Settings, after: Settings, shuffled: Any) -> None:
    routes = list(after.routes)
    shuffled.shuffle(routes)
    after = msgspec.structs.replace(after, routes=tuple(routes))
    changes = settings_diff(before, after)
    assert bool(changes) == (before != after)
    assert any(change.decides for change in changes) == (digest_of(before) != digest_of(after))
    assert all(str(change) for change in changes)
    assert not settings_diff(after, after)
    back = settings_diff(after, before)
    assert {(c.subject, c.name, c.key) for c in changes if c.kind == "changed"} == {
        (c.subject, c.name, c.key) for c in back if c.kind == "changed"
    }


def test_a_condition_in_a_list_is_written_as_in_the_file() -> None:
    base = read(POLICY)
    hard = SignalSettings(any=(SignalSettings(signal=("long",)), SignalSettings(has=("schema",))))
    other = msgspec.structs.replace(base, signals={**base.signals, "hard": hard})
    (change,) = settings_diff(base, other)
    assert change == SettingChange(
        "changed",
        "signal",
        "hard",
        "any",
        "[{ signal = [long] }, { complexity = { at_least = 0.7 } }, { has = [tools] }]",
        "[{ signal = [long] }, { has = [schema] }]",
    )
