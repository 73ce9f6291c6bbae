"""Tests inside a policy: all that they can expect, and that they can fail."""

from pathlib import Path

import msgspec
import pytest

from config.load import parse_settings
from config.model.expectations import ExpectedDecision, GivenLoad, GivenRequest, TestSettings
from config.model.settings import Settings
from config.model.table import Seconds
from config.model.tenancy import Budget, TenantSettings, TierSettings
from policies.authoring.decision import Decider
from policies.authoring.expectation import Difference, ExpectationVerdict, judge
from policies.authoring.situation import situation_of
from tests.policies.model.test_plan import SAME, TEXT

BASE = parse_settings(
    TEXT.replace('name = "chat"', 'name = "chat"\nwhen = { tag = ["vip"] }')
    + '[[routes]]\nname = "cheap"\nwhen = { tenant = ["acme"] }\nuse = { ladder = "safe" }\n[tenants.acme]\n'
    + "[tenants.bob]\n[tiers.slow]\n",
    Path("/etc/x.toml"),
)


def run(given: GivenRequest, settings: Settings = BASE, **expect: object) -> ExpectationVerdict:
    return judge(Decider(settings, SAME), TestSettings(name="t", given=given, expect=ExpectedDecision(**expect)))  # type: ignore[arg-type]


EVERYTHING = {
    "route": "chat",
    "cascade": "thrifty",
    "ladder": "safe",
    "first_rung": "small",
    "rungs": ("small", "large", "static_answer"),
    "may_escalate": True,
    "mode": "window",
    "why": "default",
    "reason": "tagged",
}


def test_all_that_can_be_expected() -> None:
    verdict = run(GivenRequest(tag=("vip",)), **EVERYTHING)
    assert verdict.passed, verdict
    assert verdict.why == ("route chat: tagged vip",)


@pytest.mark.parametrize("what", EVERYTHING)
def test_each_of_it_can_fail(what: str) -> None:
    wrong = {"rungs": ("small",), "may_escalate": False, "mode": "gate"}.get(what, "other")
    verdict = run(GivenRequest(tag=("vip",)), **{what: wrong})
    got = EVERYTHING[what] if what != "reason" else "tagged vip"
    assert (verdict.passed, verdict.differences) == (False, (Difference(what, wrong, got),))


def test_a_load_makes_busy_at_once() -> None:
    waits = {"large": GivenLoad(queue_wait=Seconds(1.6))}
    assert run(GivenRequest(tag=("vip",), load=waits), first_rung="small", may_escalate=False, why="busy").passed
    assert run(GivenRequest(tag=("vip",), busy=("thrifty",)), why="busy").passed
    assert run(GivenRequest(tag=("vip",)), may_escalate=True).passed
    down = {"small": GivenLoad(breaker="open"), "large": GivenLoad(healthy=False)}
    assert run(GivenRequest(tag=("vip",), load=down), first_rung="large", why="small_unavailable").passed


def test_a_text_gives_what_is_not_given() -> None:
    hard = "Prove, step by step, that it must not be exactly 17, without only using at least 4 and at most 12 lemmas."
    assert run(GivenRequest(tag=("vip",), text=hard), why="asked_large").passed
    assert run(GivenRequest(tag=("vip",), text=hard, complexity=0.1), why="default").passed
    assert situation_of(GivenRequest(text="der die das und ist nicht"), BASE).features.language == "de"


def test_refusals_have_a_reason() -> None:
    verdict = run(GivenRequest(tenant="bob"), route="chat")
    assert verdict.differences == (Difference("route", "chat", None),)
    assert verdict.decided == "refused: no_route"
    assert verdict.why[1:] == ("not route chat: not tagged vip", "not route cheap: tenant is bob, not acme")
    assert run(GivenRequest(tenant="bob"), refused="no_route").passed
    assert run(GivenRequest(model="chatt"), refused="model_not_found").passed
    assert not run(GivenRequest(), refused="no_route").passed


def with_budget(budget: Budget) -> Settings:
    return msgspec.structs.replace(BASE, tenants={"acme": TenantSettings(budget=budget)})


def test_spent_budgets() -> None:
    spent = GivenRequest(tag=("vip",), budget_used=1.0)
    refuse = with_budget(Budget(amount=1))
    assert run(spent, refuse, refused="budget_spent", reason="spent for this day").passed
    assert run(GivenRequest(tag=("vip",), budget_used=0.99), refuse, route="chat").passed
    only_vips = msgspec.structs.replace(refuse, routes=refuse.routes[:1])
    assert run(GivenRequest(budget_used=1.0), only_vips, refused="no_route").passed
    small_only = with_budget(Budget(amount=1, when_spent="small_only"))
    assert run(spent, small_only, why="budget", rungs=("small", "static_answer")).passed
    downgrade = with_budget(Budget(amount=1, when_spent="downgrade", downgrade_to="slow"))
    by_tier = msgspec.structs.replace(
        downgrade,
        tiers={"default": TierSettings(), "slow": TierSettings()},
        routes=(
            msgspec.structs.replace(BASE.routes[1], when=msgspec.structs.replace(BASE.routes[1].when, tier=("slow",))),
            BASE.routes[0],
        ),
    )
    assert run(spent, by_tier, route="cheap").passed
    assert run(GivenRequest(tag=("vip",)), by_tier, route="chat").passed


def test_a_time_without_a_zone_is_no_time() -> None:
    verdict = run(GivenRequest(time="2026-11-21T22:30:00"), route="cheap")
    assert not verdict.passed
    assert "expected one with a zone" in verdict.differences[0].got
