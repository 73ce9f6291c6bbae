"""Under overload a request is refused before its prompt is read, without a reservation or a row in the ledger."""

from collections import Counter

import pytest
import trio

from actors.api.errors import Refusal
from tests.actors.configuration import CONFIG
from tests.actors.fakes import Answer, Stage, stage

SLO = '[tiers.default]\nadmit_by = "slo"\nslo = { ttft = "1s" }\n'
BUSY = CONFIG.replace("[tiers.default]\n", SLO)
EXPERIMENT = """
[[experiments]]
name = "shorter"
route = ["large"]
unit = "request"
arms = { control = 50, shorter = 50 }
override = { shorter = { "routes.large.midstream" = "continue" } }
"""
BUDGET = """
[prices]
small = { input = 1_000_000, output = 1_000_000 }
large = { input = 2_000_000, output = 2_000_000 }
[tenants.anonymous]
budget = { amount = 1_000_000_000, per = "day", when_spent = "WHEN" }
"""
STATIC = '[[ladders.large-only]]\nanswer = "Come back later."\n'


async def overloaded(service: Stage, model: str, seconds: int = 20, per_s: int = 40) -> list[tuple[Answer, str, float]]:
    """Answers, request ids, and seconds until the end: of ten times as many requests as are served."""
    ended: list[tuple[Answer, str, float]] = []

    async def ask() -> None:
        request = service.request(model, text="How are you?", ignore_eos=True, max_tokens=10)
        began, answer = trio.current_time(), Answer()
        try:
            answer = await service.read(await service.service.open(request), answer)
        except Refusal as refusal:
            answer.refusal = refusal.with_traceback(None)
        ended.append((answer, request.request_id, trio.current_time() - began))

    async with trio.open_nursery() as nursery:
        for _ in range(seconds * per_s):
            nursery.start_soon(ask)
            await trio.sleep(1 / per_s)
    return ended


async def test_refused_before_the_prompt_is_read(autojump_clock):
    async with stage(settings=BUSY) as service:
        ended = await overloaded(service, "large")
        await service.assert_clean()
        rows, refused = service.rows(), [(answer, name, after) for answer, name, after in ended if answer.refusal]
        early = [(answer, after) for answer, name, after in refused if name not in rows]
        assert 60 < len(ended) - len(refused) < 100
        assert len(early) > 0.9 * len(refused)
        assert {(each.refusal.body.status, each.refusal.body.code) for each, _ in early} == {(429, "wait_too_long")}
        assert all(each.refusal.body.retry_after_s > 0 for each, _ in early)
        assert all(after == 0 for _, after in early)
        statistics = service.service.statistics()
        codes = Counter(answer.refusal.body.code for answer, _, _ in refused)
        assert statistics.refusals_total == codes
        assert sum(statistics.requests_total.values()) == len(ended)
        assert statistics.queues["large"].refused_total >= len(early)
        kept = service.service.admin.decision(next(name for answer, name, _ in refused if name not in rows))
        assert kept is not None
        assert (kept.outcome, kept.code, kept.plan is not None) == ("refused", "wait_too_long", True)
        assert (kept.timings.total, kept.cost, kept.degraded) == (0.0, 0.0, ())
        assert [(each.rung, each.outcome, each.why) for each in kept.attempts] == [
            ("large", "refused", "wait_too_long")
        ]
        assert all(len(answer.tokens()) == 10 for answer, _, _ in ended if not answer.refusal)
        # Clients that were sent away together do not come back together.
        told = [each.refusal.body.retry_after_s for each, _ in early[-20:]]
        assert len(set(told)) == len(told)
        await trio.sleep(30)
        assert (await service.ask("large", text="And now?", max_tokens=3)).refusal is None


@pytest.mark.parametrize(
    ("settings", "model"),
    [
        (BUSY.replace('slo"\n', 'queue"\n', 1), "large"),
        (BUSY + EXPERIMENT, "large"),
        (BUSY + STATIC, "large"),
        (BUSY + BUDGET.replace("WHEN", "small_only"), "large"),
        (BUSY.replace('model = ["large"]', 'model = ["large"], prompt_tokens = { below = 500 }'), "large"),
    ],
)
async def test_who_is_not_refused_early(autojump_clock, settings, model):
    async with stage(settings=settings) as service:
        ended = await overloaded(service, model, 10)
        rows = service.rows()
        assert [name for answer, name, _ in ended if answer.refusal and name not in rows] == []
        await service.assert_clean()


async def test_another_rung_takes_what_the_first_would_refuse(autojump_clock):
    async with stage(settings=BUSY) as service:
        ended = await overloaded(service, "small")
        served = {answer.end.served.rung for answer, _, _ in ended if not answer.refusal}
        assert served == {"small", "large"}
        assert 140 < sum(not answer.refusal for answer, _, _ in ended) < 200
        await service.assert_clean()


async def test_a_budget_that_refuses_leaves_the_plan_as_it_is(autojump_clock):
    async with stage(settings=BUSY + BUDGET.replace("WHEN", "refuse")) as service:
        ended = await overloaded(service, "large", 10)
        rows = service.rows()
        assert any(answer.refusal and name not in rows for answer, name, _ in ended)
        await service.assert_clean()


async def test_a_recording_has_the_true_length_of_every_prompt(autojump_clock, tmp_path):
    async with stage(settings=BUSY, record=tmp_path / "trace.jsonl") as service:
        ended = await overloaded(service, "large", 10)
        rows = service.rows()
        assert all(name in rows for answer, name, _ in ended if answer.refusal)
        await service.assert_clean()
