"""Runs the tests in a policy file: compares the decision for a described request with the expected one."""

from collections.abc import Iterator
from typing import Any

import msgspec

from config.model.expectations import ExpectedDecision, TestSettings
from policies.authoring.decision import Decider, Decision, DecisionOutcome, DecisionRefusal
from policies.authoring.situation import Situation, situation_of
from policies.model.plan import BY_BUDGET, Plan


class Difference(msgspec.Struct, frozen=True):
    """One key of `expect` whose value differs from the decision."""

    what: str
    expected: Any
    got: Any


class ExpectationVerdict(msgspec.Struct, frozen=True):
    """The result of one test."""

    name: str
    passed: bool
    differences: tuple[Difference, ...]
    decided: str
    why: tuple[str, ...]


def judge(decider: Decider, test: TestSettings) -> ExpectationVerdict:
    """Run one test. A `given` that is invalid fails it, with the reason."""
    try:
        situation = situation_of(test.given, decider.settings)
    except ValueError as error:
        return ExpectationVerdict(test.name, False, (Difference("given", "a request", str(error)),), "", ())
    decision = decider.decide(situation)
    differences = tuple(_differences(test.expect, decision))
    why = tuple(facts(decider, situation, decision))
    return ExpectationVerdict(test.name, not differences, differences, str(DecisionOutcome.of(decision)), why)


def facts(decider: Decider, situation: Situation, decision: Decision) -> Iterator[str]:
    """Why it was decided so: for each route that was passed over what did not hold, then the plan's own reasons."""
    if isinstance(decision, DecisionRefusal):
        yield decision.message
    for name, finding in decider.findings(situation):
        if finding.holds:
            break
        yield f"not route {name}: {', '.join(finding.facts())}"
    if not isinstance(decision, DecisionRefusal):
        for reason in decision.reasons:
            yield f"route {decision.route}: {reason}"
        if decision.arm:
            yield f"arm {decision.arm} of experiment {decision.experiment}"


def _why(plan: Plan) -> str | None:
    """The reason code of a cascade, or of a ladder that a spent budget has reduced."""
    if plan.cascade is not None:
        return plan.cascade.why
    return None if BY_BUDGET.isdisjoint(plan.degraded) else "budget"


def _differences(expect: ExpectedDecision, decision: Decision) -> Iterator[Difference]:
    outcome = DecisionOutcome.of(decision)
    if isinstance(decision, DecisionRefusal):
        found: dict[str, Any] = {"refused": decision.code}
        reasons: tuple[str, ...] = (decision.message,)
    else:
        found = {
            "route": decision.route,
            "cascade": outcome.cascade or None,
            "ladder": decision.ladder,
            "first_rung": outcome.starts_on or None,
            "rungs": outcome.rungs,
            "may_escalate": outcome.may_escalate,
            "mode": outcome.mode,
            "why": _why(decision),
            "arm": decision.arm or None,
        }
        reasons = decision.reasons
    for name in ExpectedDecision.__struct_fields__:
        wanted = getattr(expect, name)
        if wanted is None:
            continue
        if name == "reason":
            if not any(wanted in reason for reason in reasons):
                yield Difference(name, wanted, "; ".join(reasons))
        elif found.get(name) != wanted:
            yield Difference(name, wanted, found.get(name))
