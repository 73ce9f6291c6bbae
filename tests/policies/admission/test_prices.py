"""The cost of an attempt, and the worst-case cost of a request."""

from typing import Any

import msgspec
import pytest

from config.model.tenancy import Price
from policies.admission.prices import cheapest, cost_of, worst_cost
from policies.model.plan import Plan, PlannedCascade, PlannedRung

PRICES = {
    "small": Price(input=1e6, output=2e6, cached_input=0.25e6),
    "large": Price(input=10e6, output=20e6),
    "dear": Price(input=30e6, output=30e6),
    "reads": Price(input=5e6, output=2e6),
    "free": Price(input=0.0, output=0.0),
}


@pytest.mark.parametrize(
    ("rung", "prompt", "made", "cached", "cost"),
    [
        ("small", 10, 0, 0, 10.0),
        ("small", 0, 10, 0, 20.0),
        ("small", 10, 5, 0, 20.0),
        ("small", 10, 5, 8, 2 * 1 + 8 * 0.25 + 10.0),
        ("small", 10, 0, 10, 2.5),
        # Without a price for cached input, cached tokens cost as much as the others.
        ("large", 10, 5, 8, 200.0),
        ("free", 10, 5, 8, 0.0),
        ("unheard of", 10, 5, 8, 0.0),
    ],
)
def test_the_cost_of_an_attempt(rung: str, prompt: int, made: int, cached: int, cost: float) -> None:
    assert cost_of(PRICES.get(rung), prompt, made, cached) == cost
    if not cached:
        assert cost_of(PRICES.get(rung), prompt, made) == cost


@pytest.mark.parametrize(
    ("rungs", "cheapest_rung"),
    [
        ([], None),
        (["large"], "large"),
        (["large", "small"], "small"),
        # The output price decides, then the input price, then the order.
        (["reads", "small"], "small"),
        (["small", "reads"], "small"),
        (["large", "dear"], "large"),
        # A rung without a price is free.
        (["small", "unheard of", "free"], "unheard of"),
        (["free", "unheard of"], "free"),
    ],
)
def test_the_cheapest(rungs: list[str], cheapest_rung: str | None) -> None:
    assert cheapest(PRICES, rungs) == cheapest_rung


def plan(*rungs: str | None, stages: tuple[str, str] | None = None) -> Plan:
    cascade = None
    if stages is not None:
        cascade = PlannedCascade(
            small=PlannedRung(to=stages[0]),
            large=PlannedRung(to=stages[1]),
            threshold=1.0,
            mode="gate",
            window=4,
            start_on="small",
            may_escalate=True,
            why="default",
        )
    return Plan(
        route="r",
        rungs=tuple(PlannedRung(to=rung, answer="Sorry." if rung is None else None) for rung in rungs),
        cascade=cascade,
        ttft_at=10.0,
        total_at=100.0,
        stall_s=5.0,
        output_cap=None,
        midstream="error",
        reasons=(),
    )


@pytest.mark.parametrize(
    ("planned", "cost"),
    [
        (plan(), 0.0),
        (plan(None), 0.0),
        (plan("small"), 10 + 2 * 5),
        (plan("unheard of"), 0.0),
        # Only one rung answers: at worst the cost expensive, wherever it is.
        (plan("small", "large", None), 100 + 20 * 5),
        (plan("large", "small"), 100 + 20 * 5),
        # Both stages are billed.
        (plan(stages=("small", "large")), 20 + 200),
        (plan("small", stages=("small", "large")), 20 + 200),
        # The ladder of a cascade replaces the large stage.
        (plan("dear", stages=("small", "large")), 20 + 450),
        (plan("dear", stages=("large", "small")), 200 + 450),
    ],
)
def test_the_worst_case_cost_of_a_request(planned: Plan, cost: float) -> None:
    assert worst_cost(PRICES, planned, prompt_tokens=10, output_tokens=5) == cost


@pytest.mark.parametrize(
    ("changes", "rungs", "cost"),
    [
        # One stage alone, or the ladder in its place: whichever is dearer.
        ({"may_escalate": False}, (), 20.0),
        ({"may_escalate": False}, ("large",), 200.0),
        ({"start_on": "large"}, (), 200.0),
        ({"start_on": "large"}, ("dear",), 450.0),
        ({"start_on": "large"}, ("small",), 200.0),
        # Drafts may take up to 90 tokens of the small model for 5 of the large one's answer.
        ({"mode": "verified"}, (), 10 + 2 * 90 + 200),
        ({"mode": "verified"}, ("dear",), 10 + 2 * 90 + 450),
    ],
)
def test_the_worst_case_of_one_stage_or_drafts(changes: dict[str, Any], rungs: tuple[str, ...], cost: float) -> None:
    planned = plan(*rungs, stages=("small", "large"))
    assert planned.cascade is not None
    planned = msgspec.structs.replace(planned, cascade=msgspec.structs.replace(planned.cascade, **changes))
    assert worst_cost(PRICES, planned, prompt_tokens=10, output_tokens=5) == cost
