"""Budgets, prices and experiments in a running service."""

import re
import time

import pytest
import trio

from tests.actors.fakes import CONFIG, says, stage

PRICES = """
[prices]
small = { input = 1_000_000, output = 1_000_000 }
large = { input = 10_000_000, output = 10_000_000 }
"""
SLOW_ROUTE = """
[[routes]]
name = "slow"
when = { tier = ["slow"] }
use = { ladder = "small-only" }
[[ladders.small-only]]
to = "small"
"""


def with_budget(amount: float, when_spent: str, more: str = "") -> str:
    return f"{CONFIG}{PRICES}[tenants.anonymous]\nbudget = {{ amount = {amount}, when_spent = {when_spent!r}{more} }}\n"


async def test_a_request_costs_what_its_rungs_cost(autojump_clock):
    async with stage({"small": says("ok"), "large": says("ok")}, settings=with_budget(1e6, "refuse")) as service:
        answer = await service.ask("small", max_tokens=10)
        done = answer.events[-1]
        await service.assert_clean()
        row = service.row("r1")
        assert row["cost"] == done.usage.prompt_tokens + done.usage.completion_tokens
        assert row["reserved_cost"] > row["cost"]
        view = service.service.statistics().budgets["anonymous"]
        assert (view.spent, view.reserved) == (row["cost"], 0.0)


async def test_what_is_published_of_a_budget_is_true_on_an_idle_server(autojump_clock):
    async with stage({"small": says("ok")}, settings=with_budget(5000, "refuse")) as service:
        answer = await service.ask("small", max_tokens=300)
        await trio.testing.wait_all_tasks_blocked()
        usage = answer.events[-1].usage
        view = service.service.statistics().budgets["anonymous"]
        assert (view.spent, view.reserved) == (usage.prompt_tokens + usage.completion_tokens, 0.0)
        assert view.used < 0.01


async def test_an_escalated_request_pays_for_both_stages(autojump_clock):
    scripts = {"small": says("okay then", {3: 0.1}), "large": says("okay then")}
    async with stage(scripts, settings=with_budget(1e9, "refuse")) as service:
        answer = await service.ask("whole", max_tokens=20)
        assert answer.refusal is None, answer.refusal
        usage = answer.events[-1].usage
        await service.assert_clean()
        large = 10 * (usage.prompt_tokens + usage.completion_tokens)
        assert service.row("r1")["cost"] == pytest.approx(large + usage.prompt_tokens + 4)


async def test_refuse_says_what_is_left_and_when_there_is_more(autojump_clock):
    async with stage({"small": says("ok")}, settings=with_budget(200, "refuse")) as service:
        assert (await service.ask("small", max_tokens=10)).refusal is None
        refusal = (await service.ask("large", max_tokens=30)).refusal
        assert refusal is not None
        assert (refusal.body.status, refusal.body.code) == (429, "budget_spent")
        assert re.search(
            r"budget of 200 per day of tenant anonymous does not cover .* up to 340, and 193 is left",
            refusal.body.message,
        )
        assert refusal.body.retry_after_s > 0
        # What is cheap enough still fits.
        assert (await service.ask("small", max_tokens=10)).refusal is None


async def test_small_only_never_asks_the_large_model(autojump_clock):
    scripts = {"small": says("okay then", {3: 0.1}), "large": says("okay then")}
    # Enough for what the small model may cost, and not for both.
    async with stage(scripts, settings=with_budget(50, "small_only")) as service:
        answer = await service.ask("whole", max_tokens=20)
        assert answer.refusal is None, answer.refusal
        served = answer.events[-1].served
        assert (served.rung, served.why) == ("small", "budget")
        assert service.service.statistics().engines["large"].steps_total == 0
        # A ladder keeps its cheapest rung, and that is all that this one has: there is no money for it.
        refusal = (await service.ask("large", max_tokens=5)).refusal
        assert refusal is not None
        assert refusal.body.code == "budget_spent"


async def test_downgrade_serves_in_the_other_tier(autojump_clock):
    text = with_budget(20, "downgrade", ', downgrade_to = "slow"') + "[tiers.slow]\npriority = -3\n"
    text = text.replace('when = { model = ["large"] }', 'when = { model = ["large"], tier = ["default"] }')
    text = text.replace('[[routes]]\nname = "both"', SLOW_ROUTE + '[[routes]]\nname = "both"')
    async with stage({"small": says("ok"), "large": says("ok")}, settings=text) as service:
        response = await service.open("large", max_tokens=5)
        assert (response._attempt_factory.principal.tier, response._attempt_factory.principal.priority) == ("slow", -3)
        assert response._attempt_factory.principal.tenant_queue == "anonymous in slow"
        served = (await service.read(response)).events[-1].served
        assert (served.route, served.rung) == ("slow", "small")


async def test_what_was_spent_before_a_restart_stays_spent(autojump_clock):
    async with stage({"small": says("ok")}, settings=with_budget(200, "refuse")) as service:
        await service.ask("small", max_tokens=10)
        await service.assert_clean()
        spent = service.workers.store_file.spent(time.time())
        assert spent.by_tenant["anonymous"]["day"] == service.row("r1")["cost"]
        assert spent.by_cascade == {}


async def test_an_arm_that_fails_goes_back_to_control(autojump_clock):
    text = (
        CONFIG
        + """
[[experiments]]
name = "try"
route = ["small"]
unit = "request"
arms = { control = 50, b = 50 }
override.b = { "routes.small.use" = { ladder = "large-only" } }
guard = { metrics = ["error_rate"], alpha = 0.05, min_requests = 5 }
"""
    )
    async with stage({"small": says("ok"), "large": says("ok")}, settings=text) as service:
        arms = set()
        for _ in range(30):
            served = (await service.ask("small", max_tokens=5)).end.served
            arms.add((served.arm, served.rung))
        assert arms == {("control", "small"), ("b", "large")}
        view = service.service.statistics().experiments["try"]
        assert sum(arm.requests for arm in view.arms.values()) == 30
        assert await service.service.admin.roll_back("try")
        await trio.sleep(1)
        assert (await service.ask("small", max_tokens=5)).events[-1].served.rung == "small"
