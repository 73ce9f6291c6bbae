"""Decides a described situation, from the tenant's budget to the plan, and compares two decisions."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Self

import msgspec

from config.model.settings import Settings
from config.tenants import known_tenants
from policies.admission.budget import spent_action
from policies.authoring.situation import Situation
from policies.errors import NoRoute
from policies.model.features import Features
from policies.model.plan import EmitMode, Plan, PlannedRung
from policies.routing.policy import Policy, make_plan

BUDGET_SPENT = "budget_spent"
"""Refusal code for a spent budget."""
STATIC_ANSWER = "static_answer"
"""Stands for a ladder's static text in lists of rungs."""


class DecisionRefusal(msgspec.Struct, frozen=True):
    """The request is refused before any attempt."""

    code: str
    message: str


Decision = Plan | DecisionRefusal


class Decider:
    """All decisions of a policy file. Immutable. Without quotas and queues, which depend on other requests."""

    def __init__(self, settings: Settings, tokenizers: Mapping[str, str] = MappingProxyType({})) -> None:
        """`tokenizers`: see `Policy.compile`."""
        self.settings = settings
        self.policy = Policy.compile(settings, tokenizers)
        self.tenants = known_tenants(settings)

    def decide(self, situation: Situation, now: float = 0.0) -> Decision:
        """The plan, with deadlines relative to `now`, or the reason why there is none."""
        features, load = situation.features, situation.load
        settled = self.settle_budget(features)
        try:
            if isinstance(settled, DecisionRefusal):
                if settled.code == BUDGET_SPENT:
                    # A server looks for a route before it looks for money.
                    self.policy.matcher.match(features, load)
                return settled
            return make_plan(self.policy, settled, load, now)
        except NoRoute as error:
            return DecisionRefusal("no_route", str(error))

    def settle_budget(self, features: Features) -> Features | DecisionRefusal:
        """The features after `when_spent`, for the plan. Refused for an unknown model or tenant, or a spent budget."""
        if features.model not in self.settings.models:
            return DecisionRefusal("model_not_found", f"The model '{features.model}' does not exist.")
        if features.tenant not in self.tenants:
            return DecisionRefusal("invalid_api_key", f"There is no tenant '{features.tenant}'.")
        tenant = self.tenants[features.tenant]
        if features.tier not in self.settings.tiers:
            # Recorded under another policy: here it is in the tenant's.
            features = msgspec.structs.replace(features, tier=tenant.tier)
        budget = tenant.budget
        if budget is None or not (features.budget_spent or features.budget_used >= 1):
            return msgspec.structs.replace(features, budget_spent=False)
        left = spent_action(features, budget)
        if left is None:
            message = f"The budget of tenant '{features.tenant}' is spent for this {budget.per}."
            return DecisionRefusal(BUDGET_SPENT, message)
        return left


class DecisionOutcome(msgspec.Struct, frozen=True):
    """The parts of a decision that are compared."""

    refused: str = ""
    """The refusal's code."""
    route: str = ""
    arm: str = ""
    cascade: str = ""
    starts_on: str = ""
    """The rung of the first attempt."""
    may_escalate: bool | None = None
    """None: there is no cascade."""
    mode: EmitMode | None = None
    rungs: tuple[str, ...] = ()
    """In the order in which they are tried first."""

    @classmethod
    def of(cls, decision: Decision) -> Self:
        """The outcome of a plan or a refusal."""
        if isinstance(decision, DecisionRefusal):
            return cls(refused=decision.code)
        cascade = decision.cascade
        rungs = way(decision)
        return cls(
            route=decision.route,
            arm=decision.arm,
            cascade="" if cascade is None else cascade.name,
            starts_on=rungs[0] if rungs else "",
            may_escalate=None if cascade is None else cascade.may_escalate and cascade.start_on == "small",
            mode=None if cascade is None else cascade.mode,
            rungs=rungs,
        )

    def __str__(self) -> str:
        if self.refused:
            return f"refused: {self.refused}"
        arm = f", arm {self.arm}" if self.arm else ""
        return f"route {self.route}{arm}: {self._start()}"

    def beside(self, base: "DecisionOutcome") -> str:
        """A readable text of what differs from `base`."""
        if self.refused or base.refused or self.route != base.route:
            return str(self)
        parts = []
        if self.arm != base.arm:
            parts.append(f"arm {self.arm}" if self.arm else "no arm")
        if (self.cascade, self.starts_on) != (base.cascade, base.starts_on):
            parts.append(self._start())
        elif self.may_escalate != base.may_escalate:
            parts.append("may escalate" if self.may_escalate else f"stays on {self.starts_on}")
        if self.mode != base.mode and self.mode is not None:
            parts.append(f"emits by {self.mode}")
        if self.rungs != base.rungs and not parts:
            parts.append(f"rungs {', '.join(self.rungs)}")
        return f"route {self.route}, but {', '.join(parts)}"

    def _start(self) -> str:
        start = f"starts on {self.starts_on}" if self.starts_on else "has no rung"
        if self.may_escalate is None:
            return start
        return start + (" and may escalate" if self.may_escalate else " and stays there")


def way(plan: Plan) -> tuple[str, ...]:
    """All rungs of a plan in the order in which they are first tried: the cascade's stages, then the ladder."""
    names: dict[str, None] = {}
    cascade = plan.cascade
    if cascade is not None:
        start = cascade.small if cascade.start_on == "small" else cascade.large
        names[rung_name(start)] = None
        if cascade.may_escalate:
            names[rung_name(cascade.large)] = None
    names |= dict.fromkeys(rung_name(rung) for rung in plan.rungs)
    return tuple(names)


def rung_name(rung: PlannedRung) -> str:
    """The engine's or upstream's, or `STATIC_ANSWER`."""
    return rung.to if rung.to is not None else STATIC_ANSWER
