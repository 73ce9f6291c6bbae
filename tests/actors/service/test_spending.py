"""Sixty requests at once on a budget for one: whatever `when_spent` says, no more is spent than there is."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import trio

from actors.api.request import EmbeddingParams, TokenPrompt
from config.source import ConfigSource
from engine.model.vectors import EmbeddingSizes
from engine.sampling.grammar import Grammar
from tests.actors.clock_workers import connection
from tests.actors.fakes import CONFIG, PROMPT, Answer, Stage, says, stage

WIDE = CONFIG.replace("requests = 8", "requests = 500").replace('wait = "20s"', 'wait = "1h"')
DEADLINES = 'deadlines = { ttft = "1h", total = "2h" }'
PATIENT = WIDE.replace("[[routes]]\n", f"[[routes]]\n{DEADLINES}\n")
PRICES = """
[prices]
small = {{ input = {small}, output = {small} }}
large = {{ input = 10_000_000, output = 10_000_000 }}
"""
WORDS = {
    "refuse": 'when_spent = "refuse"',
    "small_only": 'when_spent = "small_only"',
    "downgrade": 'when_spent = "downgrade", downgrade_to = "slow"',
}
BOTH_LADDER = """
[[routes]]
name = "dear"
when = { model = ["dear"] }
use = { ladder = "dear" }
deadlines = { ttft = "1h", total = "2h" }
[[ladders.dear]]
to = "large"
[[ladders.dear]]
to = "small"
[models.dear]
[models.drafted]
[[routes]]
name = "drafted"
when = { model = ["drafted"] }
use = { cascade = "drafted" }
deadlines = { ttft = "1h", total = "2h" }
[cascades.drafted]
stages = ["small", "large"]
emit = { mode = "verified" }
on_failure = "large-only"
"""


@dataclass
class Case:
    """Who asks for what, and what one such request may cost."""

    model: str
    worst: float
    ask: dict[str, Any] = field(default_factory=dict)
    small: str = "1_000_000"
    per: str = "day"
    encoders: dict[str, EmbeddingSizes] = field(default_factory=dict)
    scripts: dict[str, Any] = field(default_factory=dict)


UNSURE = {"small": says("okay then", {3: 0.1}), "large": says("okay then and more")}
P = len(PROMPT)
CASES = {
    "ladder": Case("dear", (P + 10) * 10, {"max_tokens": 10}),
    "ladder, small is free": Case("dear", (P + 10) * 10, {"max_tokens": 10}, small="0"),
    "one rung": Case("large", (P + 10) * 10, {"max_tokens": 10}),
    "by the hour": Case("dear", (P + 10) * 10, {"max_tokens": 10}, per="hour"),
    "by the month": Case("dear", (P + 10) * 10, {"max_tokens": 10}, per="month"),
    "cascade that escalates": Case("whole", (P + 20) * 11, {"max_tokens": 20}, scripts=UNSURE),
    "cascade in a window": Case("both", (P + 20) * 11, {"max_tokens": 20}, scripts=UNSURE),
    "drafts": Case("drafted", (P + 12) * 10 + P + 64 + 12 * 2 + 4 * 8, {"max_tokens": 12}),
    "several choices": Case("dear", (P + 10 * 3) * 10, {"max_tokens": 10, "n": 3}),
    "several prompts": Case(
        "dear", (P + 10) * 20, {"max_tokens": 10, "prompts": (TokenPrompt(PROMPT), TokenPrompt(PROMPT))}
    ),
    "max_tokens unsaid": Case("large", 512 * 10),
    "embeddings": Case(
        "large",
        P * 10,
        {"embedding": EmbeddingParams(), "streamed": False},
        encoders={"large": EmbeddingSizes(8, ())},
    ),
}


async def ask_at_once(service: Stage, count: int, model: str, **options: Any) -> list[Answer]:
    answers: list[Answer] = []

    async def ask() -> None:
        answers.append(await service.ask(model, **options))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(ask)
    return answers


def policy(case: Case, word: str, amount: float) -> str:
    small = case.small
    budget = f'budget = {{ amount = {amount}, per = "{case.per}", {WORDS[word]} }}'
    head, routes = PATIENT.split("[[routes]]", 1)
    return f"""{head}{BOTH_LADDER}[[routes]]{routes}{PRICES.format(small=small)}
[tiers.slow]
priority = -3
queue = {{ wait = "1h", requests = 500, tokens = 400_000 }}
[tenants.anonymous]
{budget}
"""


def spent(service: Stage) -> float:
    """As the ledger has it: what was truly paid for."""
    return connection(service.workers.store_file).execute("SELECT total(cost) FROM requests").fetchone()[0]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("name", CASES)
async def test_sixty_at_once_on_a_budget_for_one(autojump_clock, name: str, word: str):
    case = CASES[name]
    text = policy(case, word, case.worst)
    async with stage(case.scripts, settings=text, encoders=case.encoders) as service:
        answers = await ask_at_once(service, 60, case.model, **case.ask)
        await service.assert_clean()
        assert spent(service) <= case.worst + 1e-6
        refusals = [answer.refusal.body.code for answer in answers if answer.refusal is not None]
        assert set(refusals) <= {"budget_spent"}
        # It was a budget for one: that one was answered.
        assert len(refusals) < 60
        assert spent(service) > 0


async def test_what_costs_nothing_goes_on_for_ever(autojump_clock):
    case = CASES["ladder, small is free"]
    async with stage(settings=policy(case, "small_only", case.worst)) as service:
        answers = await ask_at_once(service, 60, "dear", max_tokens=10)
        assert [answer.refusal for answer in answers] == [None] * 60
        rungs = [answer.end.served.rung for answer in answers]
        assert (rungs.count("large"), rungs.count("small")) == (1, 59)


async def test_small_only_uses_up_what_is_left(autojump_clock):
    """The large model's worst case does not fit any more, the small one's does twice."""
    case = CASES["ladder"]
    async with stage(settings=policy(case, "small_only", case.worst + 2 * (P + 10))) as service:
        answers = await ask_at_once(service, 60, "dear", max_tokens=10, ignore_eos=True)
        served = sorted(answer.end.served.rung for answer in answers if answer.refusal is None)
        assert served == ["large", "small", "small"]


async def test_a_reload_that_brings_a_budget_counts_what_was_spent_before(autojump_clock, tmp_path):
    file = tmp_path / "service.toml"
    case = CASES["one rung"]
    with_budget = policy(case, "refuse", case.worst)
    file.write_text(with_budget.replace("budget =", "#"))
    async with stage(source=ConfigSource(file)) as service:
        assert (await service.ask("large", max_tokens=10, ignore_eos=True)).refusal is None
        for per in ("day", "hour", "month"):
            file.write_text(with_budget.replace('per = "day"', f'per = "{per}"'))
            await service.service.admin.reload()
            refusal = (await service.ask("large", max_tokens=10)).refusal
            assert refusal is not None, per
            assert refusal.body.code == "budget_spent"


async def test_a_reload_while_a_request_is_read_does_not_let_it_through(autojump_clock, tmp_path):
    """It began under a policy without a budget; when it comes to the money there is one."""
    file = tmp_path / "service.toml"
    case = CASES["one rung"]
    with_budget = policy(case, "small_only", case.worst / 2)
    file.write_text(with_budget.replace("budget =", "#"))
    async with stage(source=ConfigSource(file)) as service:
        beside, reloaded = service.workers.run_in_thread, []

        async def reload_first(job, work_for=None):
            if not reloaded and isinstance(job, partial) and isinstance(job.args[-1], Grammar):
                reloaded.append(True)
                file.write_text(with_budget)
                await service.service.admin.reload()
            return await beside(job, work_for)

        service.workers.run_in_thread = reload_first
        # Its grammar is compiled between the plan and the money.
        refusal = (await service.ask("large", grammar=Grammar("regex", "a+"))).refusal
        assert reloaded
        assert refusal is not None
        assert refusal.body.code == "budget_spent"
