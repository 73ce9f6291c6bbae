"""Whatever is done less than was asked for is told: in the answer, its first event, the decision and the ledger."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest

from actors.api.response import Start
from engine.errors import EngineError
from policies.model.plan import Degraded
from tests.actors.fakes import CONFIG, Stage, says, stage

PRICES = """
[prices]
small = { input = 1_000_000, output = 1_000_000 }
large = { input = 10_000_000, output = 10_000_000 }
[tiers.slow]
priority = -3
[tenants.anonymous]
"""
ROUTES = """
[[routes]]
name = "slow"
when = { model = ["dear"], tier = ["slow"] }
use = { ladder = "small-only" }
[[ladders.small-only]]
to = "small"
[[routes]]
name = "dear"
when = { model = ["dear"] }
use = { ladder = "dear" }
caps = { output_tokens = 20 }
[[ladders.dear]]
to = "large"
mark = "main"
[[ladders.dear]]
to = "small"
[[ladders.dear]]
answer = "later"
[[routes]]
name = "text"
when = { model = ["text"] }
use = { ladder = "text" }
[[ladders.text]]
answer = "closed today"
mark = "closed"
[models.dear]
[models.text]
"""


PATIENT = "[quarantine]\ncrashes = 3\n"
"""Else a request for which two engines fail is quarantined, and gets no static answer."""


def settings(budget: str = "") -> str:
    head, routes = CONFIG.split("[[routes]]", 1)
    budget = f"budget = {{ {budget} }}" if budget else ""
    return f"{head}{PATIENT}{ROUTES}[[routes]]{routes}{PRICES}{budget}\n"


SMALL_ONLY = 'amount = 60, when_spent = "small_only"'
DOWNGRADE = 'amount = 60, when_spent = "downgrade", downgrade_to = "slow"'


def breaks(service: Stage, *names: str) -> None:
    def fail(number: int, batch: Any) -> None:
        raise EngineError("broken", "for the test")

    for name in names:
        service.on_step[name] = fail


@dataclass
class Case:
    """A request, and what its answer must say."""

    model: str
    degraded: tuple[str, ...] = ()
    why: str = "asked_for"
    rung: str = "large"
    tier: str | None = None
    mark: str | None = None
    budget: str = ""
    max_tokens: int = 5
    before: Callable[[Stage], None] = lambda _: None
    trouble: bool = False
    """`why` is that of the rung that failed."""
    scripts: dict[str, Any] = field(default_factory=dict)


CASES = {
    "nothing": Case("dear", mark="main"),
    "small_only on a ladder": Case("dear", ("budget_small_only",), "budget", "small", budget=SMALL_ONLY),
    "small_only on a cascade": Case("whole", ("budget_small_only",), "budget", "small", budget=SMALL_ONLY),
    "downgrade": Case("dear", ("budget_downgraded",), "budget", "small", tier="slow", budget=DOWNGRADE),
    "a route's cap": Case("dear", ("output_capped",), mark="main", max_tokens=21),
    "a fallback": Case(
        "dear", ("fallback",), rung="small", trouble=True, before=lambda service: breaks(service, "large")
    ),
    "small_only, and a fallback": Case(
        "dear",
        ("budget_small_only", "fallback", "static_answer"),
        rung="static_answer",
        budget=SMALL_ONLY,
        trouble=True,
        before=lambda service: breaks(service, "small"),
    ),
    "all of a ladder": Case(
        "dear",
        ("output_capped", "fallback", "static_answer"),
        rung="static_answer",
        trouble=True,
        max_tokens=99,
        before=lambda service: breaks(service, "small", "large"),
    ),
    "a static answer": Case("text", ("static_answer",), rung="static_answer", mark="closed"),
    "a cascade whose small stage is gone": Case(
        "whole", ("fallback",), rung="large", trouble=True, before=lambda service: breaks(service, "small")
    ),
}


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("name", CASES)
async def test_every_word_leaves_its_trace(autojump_clock, name: str, streamed: bool):
    case = CASES[name]
    scripts = {"small": says("ok"), "large": says("ok")}
    async with stage(scripts, settings=settings(case.budget)) as service:
        case.before(service)
        answer = await service.ask(case.model, max_tokens=case.max_tokens, streamed=streamed)
        assert answer.refusal is None, answer.refusal
        served = answer.end.served
        assert served.rung == case.rung
        assert served.degraded == case.degraded
        assert (served.tier, served.mark) == (case.tier, case.mark)
        assert (served.why not in {"asked_for", "budget"}) if case.trouble else served.why == case.why
        start = answer.events[0]
        assert isinstance(start, Start)
        assert (start.degraded, start.tier, start.mark) == (case.degraded, case.tier, case.mark)
        service.on_step.clear()
        await service.assert_clean()
        row = service.row("r1")
        assert (row["why"], row["degraded"]) == (served.why, ",".join(case.degraded))
        record = service.service.admin.decision("r1")
        assert record is not None
        assert record.degraded == case.degraded


async def test_a_busy_cascade_says_so(autojump_clock):
    text = (
        CONFIG.replace(
            'emit = { mode = "gate" }\n',
            'emit = { mode = "gate" }\n'
            'when_busy = { signal = "busy", stay_on = "small", release_at = 0.0, dwell = "1s" }\n',
        )
        + '[signals.busy]\nload = { of = "large", kv_usage = { at_least = 0.0 } }\n'
    )
    async with stage({"small": says("okay then", {3: 0.1})}, settings=text) as service:
        served = (await service.ask("whole", max_tokens=5)).end.served
        assert (served.rung, served.why, served.degraded) == ("small", "busy", ("busy",))


def test_the_table_has_every_word() -> None:
    told = {word for case in CASES.values() for word in case.degraded}
    # busy: above. busy_capped needs a queue: tests/policies/routing/test_planner.py.
    assert told | {"busy", "busy_capped"} == set(get_args(Degraded))
