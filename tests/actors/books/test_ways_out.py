"""The books, on every way out: what a request costs in tokens and money, what is written down, what the client hears.

Each line of the table is a way out. Afterwards every book must say exactly what its line says, and nothing may be held.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from actors.messages import ChatMessage, ChatPrompt, TokenPrompt
from policies.course import Course, Ending, Notice
from policies.plan import Plan
from tests.actors.books import ways_out as out
from tests.actors.books.ways_out import WayOut, asks
from tests.actors.books.world import LONG, TEXT, Books, Told, World, config, world
from tests.actors.fakes import says

UNSURE = {"small": says(TEXT, {3: 0.1})}
UNSURE_LATER = {"small": says(TEXT, {4: 0.1})}
CHAT = {"prompts": (ChatPrompt((ChatMessage("user", "Hi there"),)),)}
LONG_ONES = (TokenPrompt(LONG), TokenPrompt(LONG[::-1]))
TWO = (TokenPrompt((5, 6)), TokenPrompt((7, 8, 9)))
BREAKER = config().replace(
    '[[ladders.large-only]]\nto = "large"',
    '[[ladders.large-only]]\nto = "large"\nttft = "1s"\nbreaker = { at_least = 2, open = "40s" }',
)
HURRY = config().replace(
    'use = { ladder = "small-first" }', 'use = { ladder = "small-first" }\ndeadlines = { ttft = "4s" }'
)
SHORT = HURRY.replace('ttft = "4s"', 'ttft = "1s", total = "1.95s"')
SHORT_QUEUE = config().replace('wait = "20s"', 'wait = "2s"')


@dataclass(frozen=True)
class Row:
    """Of the ledger."""

    outcome: str
    why: str
    rung: str
    prompt: int
    completion: int
    discarded: int
    cost: float


@dataclass(frozen=True)
class Way:
    """One way out, and what stands in the books behind it."""

    name: str
    go: WayOut
    told: Told
    row: Row | None
    """Of the last request; None: it has none."""
    tokens: int = 0
    """That count in the minute and in the day."""
    requests: int = 1
    """That count in the minute."""
    money: float | None = None
    """Spent of the budget; None: what the row says."""
    reserved: tuple[int, float] | None = None
    """Tokens and money that the last request was let in with; None: see `cost` (with drafts it depends)."""
    house: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


REFUSED = [
    Way("unknown key", asks(api_key="penstock_nobody"), "invalid_api_key", None, requests=0),
    Way("unknown model", asks("smal"), "model_not_found", None, requests=0),
    Way("prompt too long", asks(max_tokens=600), "context_length_exceeded", None, requests=0),
    Way("input too long", out.embedding_too_long, "context_length_exceeded", None, requests=0),
    Way(
        "not of the vocabulary",
        asks(prompt=(5, 6, 9_999)),
        "token_out_of_vocabulary",
        Row("refused", "token_out_of_vocabulary", "small", 0, 0, 0, 0.0),
        requests=0,
        reserved=(13, 230.0),
    ),
    Way(
        "tokens a minute",
        asks(),
        "tokens_per_minute_exceeded",
        None,
        requests=0,
        house={"settings": config(tokens="{ per_minute = 13 }")},
    ),
    Way(
        "tokens a day",
        asks(),
        "tokens_per_day_exceeded",
        None,
        requests=0,
        house={"settings": config(tokens="{ per_day = 13 }")},
    ),
    Way(
        "requests a minute",
        out.after_another,
        "requests_per_minute_exceeded",
        None,
        tokens=10,
        money=16.0,
        house={"settings": config(requests_per_minute="1")},
    ),
    Way(
        "too many at once",
        partial(out.beside_another, model="small"),
        "concurrent_exceeded",
        None,
        house={"settings": config(concurrent="1")},
    ),
    Way(
        "budget",
        asks("large"),
        "budget_spent",
        None,
        requests=0,
        house={"settings": config(budget='{ amount = 239, per = "month" }')},
    ),
    Way(
        "budget that another one holds",
        partial(out.beside_another, model="large"),
        "budget_spent",
        None,
        house={"settings": config(budget='{ amount = 479, per = "month" }')},
    ),
    Way("queue full", out.queue_full, "queue_full", Row("refused", "queue_full", "large", 0, 0, 0, 0.0), requests=0),
    Way(
        "queue timeout",
        out.queue_timeout,
        "no_rung_available",
        Row("refused", "no_rung_available", "large", 0, 0, 0, 0.0),
        requests=0,
        house={"settings": SHORT_QUEUE},
    ),
    Way(
        "breaker open",
        out.breaker_open,
        "no_rung_available",
        Row("refused", "no_rung_available", "large", 0, 0, 0, 0.0),
        requests=0,
        house={"settings": BREAKER},
    ),
    Way("ledger busy", out.ledger_busy, "ledger_busy", None, requests=0),
    Way(
        "ledger locked",
        out.ledger_locked,
        "ledger_unavailable",
        Row("refused", "ledger_unavailable", "small", 0, 0, 1, 0.0),
        requests=0,
        house={"settings": HURRY},
    ),
    Way(
        "ledger locked, whole",
        partial(out.ledger_locked, streamed=False),
        "ledger_unavailable",
        Row("refused", "ledger_unavailable", "small", 0, 0, 6, 0.0),
        requests=0,
        house={"settings": HURRY},
    ),
    Way("cancelled while admission decides", out.cancelled_while_admission_decides, "cancelled", None, requests=0),
    Way(
        "engine down",
        out.engine_down,
        "no_rung_available",
        Row("refused", "no_rung_available", "large", 0, 0, 0, 0.0),
        requests=0,
    ),
    Way("draining", out.too_late, "shutting_down", None, requests=0, house={"clean": False}),
    Way(
        "cut before content",
        partial(out.cut, after_s=0.01),
        "shutting_down",
        Row("refused", "shutting_down", "small", 0, 0, 0, 0.0),
        requests=0,
    ),
    Way(
        "cut whole",
        partial(out.cut, after_s=0.35, streamed=False),
        "shutting_down",
        Row("refused", "shutting_down", "small", 0, 0, 3, 0.0),
        requests=0,
    ),
    Way(
        "drained whole",
        partial(out.drained, within_s=0.2, streamed=False),
        "shutting_down",
        Row("refused", "shutting_down", "small", 0, 0, 4, 0.0),
        requests=0,
        house={"clean": False},
    ),
    # The small stage was right to be paid as long as somebody could get its answer's continuation.
    Way(
        "escalated to an engine that is down",
        partial(out.failing, engine="large", step=0, model="whole"),
        "no_rung_available",
        Row("refused", "no_rung_available", "large", 0, 0, 4, 0.0),
        requests=0,
        house={"scripts": UNSURE},
    ),
]
LEFT = [
    Way("left unread", out.left_unread, "left", Row("gone", "client_gone", "", 0, 0, 0, 0.0)),
    Way("left in the queue", out.left_in_queue, "left", Row("gone", "client_gone", "large", 0, 0, 0, 0.0)),
    Way("left in prefill", out.left_in_prefill, "left", Row("gone", "client_gone", "small", 4, 0, 0, 4.0), 4),
    Way(
        "left in prefill, whole",
        partial(out.left_in_prefill, streamed=False),
        "left",
        Row("gone", "client_gone", "small", 4, 0, 0, 4.0),
        4,
    ),
    Way("left an embedding", out.left_embedding, "left", Row("gone", "client_gone", "encoder", 5, 0, 0, 15.0), 5),
    Way(
        "left between two pieces",
        partial(out.left_after_events, events=3),
        "left",
        Row("gone", "client_gone", "small", 4, 3, 0, 10.0),
        7,
    ),
    Way(
        "left what waited to be read",
        out.left_behind,
        "left",
        Row("gone", "client_gone", "small", 4, 1, 4, 14.0),
        9,
    ),
    Way(
        "left midway",
        partial(out.left_after, seconds=0.45),
        "left",
        Row("gone", "client_gone", "small", 4, 4, 0, 12.0),
        8,
    ),
    Way(
        "left midway, whole",
        partial(out.left_after, seconds=0.45, streamed=False),
        "left",
        Row("gone", "client_gone", "small", 4, 0, 4, 12.0),
        8,
    ),
    Way(
        "left two choices",
        partial(out.left_after, seconds=0.45, n=2),
        "left",
        Row("gone", "client_gone", "small", 4, 8, 0, 20.0),
        12,
    ),
    Way(
        "left after the escalation",
        partial(out.left_after, seconds=0.95, model="whole"),
        "left",
        Row("gone", "client_gone", "large", 4, 5, 4, 152.0),
        13,
        house={"scripts": UNSURE},
    ),
    Way("left while drafting", out.left_while_drafting, "left", Row("gone", "client_gone", "large", 4, 0, 2, 8.0), 6),
    Way(
        "left while verifying",
        out.left_while_verifying,
        "left",
        Row("gone", "client_gone", "large", 4, 0, 6, 56.0),
        10,
    ),
    Way(
        "left before it was written",
        partial(out.left_before_it_was_written, streamed=False),
        "left",
        Row("gone", "client_gone", "small", 4, 0, 6, 16.0),
        10,
    ),
    Way(
        "left before it was written, streamed",
        out.left_before_it_was_written,
        "left",
        Row("gone", "client_gone", "small", 4, 0, 6, 16.0),
        10,
    ),
    Way(
        "too slow a reader",
        out.slow_reader,
        "slow_reader 4 41",
        Row("overrun", "slow_reader", "small", 4, 41, 0, 86.0),
        45,
    ),
]
FINISHED = [
    Way("finished", asks(), (4, 6, 0), Row("ok", "asked_for", "small", 4, 6, 0, 16.0), 10, reserved=(14, 240.0)),
    Way("finished whole", asks(streamed=False), (4, 6, 0), Row("ok", "asked_for", "small", 4, 6, 0, 16.0), 10),
    Way("finished on large", asks("large"), (4, 6, 0), Row("ok", "asked_for", "large", 4, 6, 0, 160.0), 10),
    Way("length", asks(max_tokens=3), (4, 3, 0), Row("ok", "asked_for", "small", 4, 3, 0, 10.0), 7),
    Way(
        "three choices",
        asks(n=3, streamed=False),
        (4, 18, 0),
        Row("ok", "asked_for", "small", 4, 18, 0, 40.0),
        22,
        reserved=(34, 640.0),
    ),
    Way(
        "two prompts, two choices each",
        asks(prompts=TWO, n=2, ignore_eos=True),
        (5, 40, 0),
        Row("ok", "asked_for", "small", 5, 40, 0, 85.0),
        45,
        reserved=(45, 850.0),
    ),
    Way(
        "cached prompt",
        out.twice,
        (40, 1, 32),
        Row("ok", "asked_for", "small", 40, 1, 0, 8 * 1 + 32 * 0.25 + 2),
        82,
        requests=2,
        money=42.0 + 18.0,
        reserved=(50, 600.0),
    ),
    Way(
        "cached prompt, two choices",
        partial(out.twice, n=2),
        (40, 2, 32),
        Row("ok", "asked_for", "small", 40, 2, 0, 8 * 1 + 32 * 0.25 + 4),
        84,
        requests=2,
        money=44.0 + 20.0,
    ),
    Way(
        "two cached prompts, two choices each",
        partial(out.twice, prompts=LONG_ONES, n=2),
        (80, 4, 64),
        Row("ok", "asked_for", "small", 80, 4, 0, 16 * 1 + 64 * 0.25 + 8),
        168,
        requests=2,
        money=88.0 + 40.0,
    ),
    Way("embeddings", out.embedded, (5, 0, 0), Row("ok", "asked_for", "encoder", 5, 0, 0, 15.0), 5, reserved=(5, 15.0)),
    Way("admission was down", out.admission_is_down, (4, 6, 0), Row("ok", "asked_for", "small", 4, 6, 0, 16.0), 10),
    Way("drained", out.drained_in_time, (4, 6, 0), Row("ok", "asked_for", "small", 4, 6, 0, 16.0), 10),
    Way("writer restarted", out.writer_restarted, (4, 6, 0), Row("ok", "asked_for", "small", 4, 6, 0, 16.0), 10),
    Way(
        "writer restarted later",
        out.writer_restarted_later,
        (4, 6, 0),
        Row("ok", "asked_for", "small", 4, 6, 0, 16.0),
        10,
    ),
    Way("upstream", asks("cloud", **CHAT), (11, 1, 0), Row("ok", "asked_for", "cloud", 11, 1, 0, 1300.0), 12),
]
CASCADES = [
    Way(
        "confident",
        asks("whole"),
        (4, 6, 0),
        Row("ok", "confident", "small", 4, 6, 0, 16.0),
        10,
        reserved=(14, 24.0 + 240.0),
    ),
    Way(
        "escalated",
        asks("whole"),
        (4, 6, 0),
        Row("ok", "low_margin", "large", 4, 6, 4, (4 + 2 * 4) + (40 + 20 * 6)),
        10,
        house={"scripts": UNSURE},
        reserved=(14, 24.0 + 240.0),
    ),
    Way(
        "escalated whole",
        asks("whole", streamed=False),
        (4, 6, 0),
        Row("ok", "low_margin", "large", 4, 6, 4, (4 + 2 * 4) + (40 + 20 * 6)),
        10,
        house={"scripts": UNSURE},
    ),
    Way(
        "escalated, two choices",
        asks("whole", n=2),
        (4, 12, 0),
        Row("ok", "low_margin", "large", 4, 12, 7, (4 + 2 * 7) + (40 + 20 * 12)),
        16,
        house={"scripts": UNSURE},
    ),
    # Two tokens were shown, and the large model reads them as if they stood in the prompt.
    Way(
        "escalated within the window",
        asks("both"),
        (4, 6, 0),
        Row("ok", "low_margin", "large", 4, 6, 4, (4 + 2 * 5) + (10 * 7 + 20 * 4)),
        10,
        house={"scripts": UNSURE_LATER},
    ),
    Way(
        "verified",
        asks("checked"),
        (4, 6, 0),
        Row("ok", "verified", "large", 4, 6, 6, (4 + 2 * 6) + (40 + 20 * 6)),
        10,
    ),
    Way(
        "verified, drafts wrong",
        asks("checked"),
        (4, 6, 0),
        Row("ok", "verified", "large", 4, 6, 8, (4 + 2 * 8) + (40 + 20 * 6)),
        10,
        house={"scripts": {"small": says("other then")}},
    ),
    # Nobody drafts while the large engine is busy: then nobody pays for drafts.
    Way(
        "verified, never drafted",
        out.verified_beside_another,
        (4, 6, 0),
        Row("ok", "large_busy", "large", 4, 6, 0, 40 + 20 * 6),
        10,
        house={"settings": config().replace("draft_tokens = 64", "draft_tokens = 64, off_above_batch = 0")},
    ),
]
FAILED = [
    Way(
        "failed over",
        partial(out.failing, engine="small", step=0),
        (4, 6, 0),
        Row("ok", "engine_down", "large", 4, 6, 0, 160.0),
        10,
    ),
    Way(
        "failed midway",
        partial(out.failing, engine="small", step=3),
        "no_rung_available 4 3",
        Row("failed", "no_rung_available", "small", 4, 3, 0, 0.0),
        7,
    ),
    Way(
        "failed midway, whole",
        partial(out.failing, engine="small", step=3, streamed=False),
        (4, 6, 0),
        Row("ok", "engine_down", "large", 4, 6, 3, 160.0),
        10,
    ),
    Way(
        "went on elsewhere",
        partial(out.failing, engine="small", step=3, model="goes-on"),
        (4, 6, 0),
        Row("ok", "device_lost", "large", 4, 6, 0, 10 * 7 + 20 * 3),
        10,
    ),
    Way(
        "failed after the escalation",
        partial(out.failing, engine="large", step=2, model="both"),
        "no_rung_available 4 3",
        Row("failed", "no_rung_available", "large", 4, 3, 4, 14.0),
        7,
        house={"scripts": UNSURE_LATER},
    ),
    Way(
        "answered by nobody",
        partial(out.failing, engine="large", step=0, model="static"),
        (0, 0, 0),
        Row("ok", "device_lost", "static_answer", 0, 0, 0, 0.0),
    ),
    Way(
        "retried",
        asks("cloud", **CHAT),
        (11, 1, 0),
        Row("ok", "upstream_error", "cloud", 11, 1, 0, 1300.0),
        12,
        house={"server": out.server_fails_first("hi")},
    ),
    Way(
        "upstream broke off",
        asks("cloud", **CHAT),
        "no_rung_available 5 2",
        Row("failed", "no_rung_available", "cloud", 5, 2, 0, 0.0),
        7,
        house={"server": out.breaks_off},
    ),
    Way(
        "cut midway",
        partial(out.cut, after_s=0.35),
        "shutting_down 4 3",
        Row("failed", "shutting_down", "small", 4, 3, 0, 0.0),
        7,
    ),
    Way(
        "cut after the escalation",
        partial(out.cut, after_s=0.75, model="whole"),
        "shutting_down 4 3",
        Row("failed", "shutting_down", "large", 4, 3, 4, 12.0),
        7,
        house={"scripts": UNSURE},
    ),
    Way(
        "total deadline",
        asks(ignore_eos=True, max_tokens=300),
        "total_timeout 4 19",
        Row("failed", "total_timeout", "small", 4, 19, 0, 0.0),
        23,
        house={"settings": SHORT},
    ),
    Way(
        "total deadline, whole",
        asks(ignore_eos=True, max_tokens=300, streamed=False),
        "total_timeout",
        Row("refused", "total_timeout", "small", 0, 0, 19, 0.0),
        requests=0,
        house={"settings": SHORT},
    ),
    Way(
        "stalled",
        out.stalled,
        "no_rung_available 4 3",
        Row("failed", "no_rung_available", "small", 4, 3, 0, 0.0),
        7,
        house={"settings": SHORT.replace('total = "1.95s"', 'total = "60s", stall = "2s"')},
    ),
    Way(
        "drained midway",
        partial(out.drained, within_s=0.2),
        "shutting_down 4 4",
        Row("failed", "shutting_down", "small", 4, 4, 0, 0.0),
        8,
        house={"clean": False},
    ),
]


@pytest.fixture
def endings(monkeypatch) -> list[Ending]:
    """What the policy hears of requests whose plan has a cascade."""
    heard: list[Ending] = []
    on_end = Course.on_end

    def hear(self: Course, plan: Plan, ending: Ending) -> list[Notice]:
        heard.append(ending)
        return on_end(self, plan, ending)

    monkeypatch.setattr(Course, "on_end", hear)
    return heard


@pytest.mark.parametrize("way", [*REFUSED, *LEFT, *FINISHED, *CASCADES, *FAILED], ids=str)
async def test_the_books_are_right(autojump_clock, monkeypatch, endings, way):
    monkeypatch.setattr("actors.delivery.MOST_TOKENS", 40)
    async with world(**way.house) as here:
        assert await way.go(here) == way.told
        await here.house.assert_clean()
        row = written(here)
        assert row == way.row
        money = way.money if way.money is not None else row.cost if row is not None else 0.0
        assert here.books() == Books(way.tokens, way.tokens, way.requests, way.tokens, way.requests, money)
        if way.reserved is not None:
            assert reserved(here) == way.reserved
        rows_and_statistics_agree(here)
        if row is not None:
            record_agrees(here, row)
        if endings and row is not None:
            heard = endings[-1]
            assert (heard.outcome, heard.rung, heard.cost) == (row.outcome, row.rung, row.cost)
            assert (heard.prompt_tokens, heard.completion_tokens) == (row.prompt, row.completion)
        assert bool(endings) == any(plan.cascade for plan in plans(here))


def plans(here: World) -> list[Plan]:
    """Of alice's requests that were let in."""
    kept = [here.house.house.desk.decision(number) for number in here.numbers if number in here.house.rows()]
    return [each.plan for each in kept if each is not None and each.plan is not None]


def record_agrees(here: World, row: Row) -> None:
    """What operators are told of the request is what stands in the ledger."""
    kept = here.house.house.desk.decision(here.numbers[-1])
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
    row = here.house.rows().get(here.numbers[-1])
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
    row = here.house.rows()[here.numbers[-1]]
    return row["reserved_tokens"], row["reserved_cost"]


def rows_and_statistics_agree(here: World) -> None:
    """The totals that are published, of all tenants, are those of the ledger's rows."""
    usage: dict[tuple[str, str, str], tuple[int, int, int]] = {}
    costs: dict[tuple[str, str], float] = {}
    discarded = 0
    for row in here.house.rows().values():
        key = row["tenant"], row["rung"], row["outcome"]
        count, prompt, completion = usage.get(key, (0, 0, 0))
        usage[key] = count + 1, prompt + row["prompt_tokens"], completion + row["completion_tokens"]
        if row["cost"]:
            costs[key[:2]] = costs.get(key[:2], 0.0) + row["cost"]
        discarded += row["discarded_tokens"]
    statistics = here.house.house.statistics()
    assert statistics.usage == usage
    assert statistics.costs == pytest.approx(costs)
    assert sum(statistics.requests_total.values()) == sum(count for count, _, _ in usage.values())
    assert statistics.prompt_tokens_total == sum(prompt for _, prompt, _ in usage.values())
    assert statistics.completion_tokens_total == sum(completion for _, _, completion in usage.values())
    assert statistics.discarded_tokens_total == discarded
