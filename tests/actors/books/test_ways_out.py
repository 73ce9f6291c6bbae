"""The books, on every way out: what a request costs in tokens and money, what is written down, what the client hears.

Each line of the tables is a way out. Afterwards every book must say exactly what its line says, and nothing is held.
"""

from collections import Counter

import pytest

from policies.model.plan import Plan
from policies.rollout.rollout_state import AnswerResult, RolloutNotice, RolloutState
from tests.actors.books.cascades import CASCADES
from tests.actors.books.failed import FAILED
from tests.actors.books.finished import FINISHED
from tests.actors.books.left import LEFT
from tests.actors.books.refused import REFUSED
from tests.actors.books.way import Row
from tests.actors.books.world import Books, World, world


@pytest.fixture
def endings(monkeypatch) -> list[AnswerResult]:
    """What the policy hears of requests whose plan has a cascade."""
    heard: list[AnswerResult] = []
    on_end = RolloutState.on_end

    def hear(self: RolloutState, plan: Plan, ending: AnswerResult) -> list[RolloutNotice]:
        heard.append(ending)
        return on_end(self, plan, ending)

    monkeypatch.setattr(RolloutState, "on_end", hear)
    return heard


@pytest.mark.parametrize("way", [*REFUSED, *LEFT, *FINISHED, *CASCADES, *FAILED], ids=str)
async def test_the_books_are_right(autojump_clock, monkeypatch, endings, way):
    monkeypatch.setattr("actors.protocol.delivery.MOST_TOKENS", 40)
    async with world(**way.service) as here:
        assert await way.go(here) == way.told
        await here.service.assert_clean()
        row = written(here)
        assert row == way.row
        money = way.money if way.money is not None else row.cost if row is not None else 0.0
        assert here.books() == Books(way.tokens, way.tokens, way.requests, way.tokens, way.requests, money)
        if way.reserved is not None:
            assert reserved(here) == way.reserved
        rows_and_statistics_agree(here)
        refusals = Counter(each["why"] for each in here.service.rows().values() if each["outcome"] == "refused")
        if row is None and way.told != "cancelled":
            refusals[way.told] += 1
        assert here.service.service.statistics().refusals_total == refusals
        if row is not None:
            record_agrees(here, row)
        if endings and row is not None:
            heard = endings[-1]
            assert (heard.outcome, heard.rung, heard.cost) == (row.outcome, row.rung, row.cost)
            assert (heard.prompt_tokens, heard.completion_tokens) == (row.prompt, row.completion)
        assert bool(endings) == any(plan.cascade for plan in plans(here))


def plans(here: World) -> list[Plan]:
    """Of alice's requests that were let in."""
    kept = [here.service.service.admin.decision(number) for number in here.numbers if number in here.service.rows()]
    return [each.plan for each in kept if each is not None and each.plan is not None]


def record_agrees(here: World, row: Row) -> None:
    """What operators are told of the request is what stands in the ledger."""
    kept = here.service.service.admin.decision(here.numbers[-1])
    assert kept is not None
    assert (kept.outcome, kept.cost) == (row.outcome, row.cost)
    assert (kept.rung, kept.code) == ((row.rung, "") if row.outcome == "ok" else ("", row.why))
    assert (kept.tokens.prompt, kept.tokens.completion, kept.tokens.discarded) == (
        row.prompt,
        row.completion,
        row.discarded,
    )
    times = [kept.timings.started, kept.timings.ttft, kept.timings.total]
    known = [time for time in times if time is not None]
    assert known == sorted(known)
    assert known[0] >= 0


def written(here: World) -> Row | None:
    row = here.service.rows().get(here.numbers[-1])
    if row is None:
        return None
    assert row["tenant"] == "alice"
    assert 0 <= row["cost"] <= row["reserved_cost"]
    return Row(
        row["outcome"],
        row["why"],
        row["rung"],
        row["prompt_tokens"],
        row["completion_tokens"],
        row["discarded_tokens"],
        row["cost"],
    )


def reserved(here: World) -> tuple[int, float]:
    row = here.service.rows()[here.numbers[-1]]
    return row["reserved_tokens"], row["reserved_cost"]


def rows_and_statistics_agree(here: World) -> None:
    """The totals that are published, of all tenants, are those of the ledger's rows."""
    usage: dict[tuple[str, str, str], tuple[int, int, int]] = {}
    costs: dict[tuple[str, str], float] = {}
    discarded = 0
    for row in here.service.rows().values():
        key = row["tenant"], row["rung"], row["outcome"]
        count, prompt, completion = usage.get(key, (0, 0, 0))
        usage[key] = count + 1, prompt + row["prompt_tokens"], completion + row["completion_tokens"]
        if row["cost"]:
            costs[key[:2]] = costs.get(key[:2], 0.0) + row["cost"]
        discarded += row["discarded_tokens"]
    statistics = here.service.service.statistics()
    assert statistics.usage == usage
    assert statistics.costs == pytest.approx(costs)
    assert sum(statistics.requests_total.values()) == sum(count for count, _, _ in usage.values())
    assert sum(statistics.latency.e2e.counts) == len(here.service.rows())
    assert statistics.prompt_tokens_total == sum(prompt for _, prompt, _ in usage.values())
    assert statistics.completion_tokens_total == sum(completion for _, _, completion in usage.values())
    assert statistics.discarded_tokens_total == discarded
