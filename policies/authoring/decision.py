"""Decides a described situation, from the tenant's budget to the plan, and compares two decisions."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Self

import msgspec

from config.model.settings import Settings
from config.model.words import STATIC_ANSWER
from config.tenants import known_tenants
from policies.admission.budget import BudgetView
from policies.admission.quota import QuotaBook
from policies.authoring.situation import Situation
from policies.errors import NoSuchModel
from policies.model.backends import UNBOUNDED, Backends, upstream_length
from policies.model.plan import EmitMode, Plan, PlannedRung
from policies.routing.conditions import Finding
from policies.routing.planner import Planned, PlanningSnapshot, PlanRefusal, SizesNeeded, decide, find_model
from policies.routing.policy import Policy
from policies.routing.token_budget import PromptSizes


class DecisionRefusal(msgspec.Struct, frozen=True):
    """The request is refused before any attempt."""

    code: str
    message: str


Decision = Plan | DecisionRefusal


class Decider:
    """All decisions of a policy file. Immutable.

    Without queues, and with the quotas of a tenant without other requests: the rest depends on other requests.
    """

    def __init__(
        self,
        settings: Settings,
        tokenizers: Mapping[str, str] = MappingProxyType({}),
        backends: Backends | None = None,
    ) -> None:
        """`tokenizers`: see `Policy.compile`. Engines whose length `backends` does not say refuse no prompt."""
        self.settings = settings
        self.policy = Policy.compile(settings, tokenizers)
        self.tenants = known_tenants(settings)
        known = backends or Backends()
        self._of_unknown_length = settings.engines.keys() - known.max_model_len.keys()
        lengths = {name: known.max_model_len.get(name, UNBOUNDED) for name in settings.engines}
        for name, upstream in settings.upstreams.items():
            lengths[name] = upstream_length(upstream.context, counts=upstream.tokenizer is not None)
        self.backends = Backends(lengths, known.encoders)
        self._planning = PlanningSnapshot(self.policy, self.tenants, self.backends)

    def decide(self, situation: Situation, now: float = 0.0) -> Decision:
        """The plan, whose deadlines count from `now`, or why there is none."""
        return decision_of(self.plan(situation, now))

    def plan(self, situation: Situation, now: float = 0.0) -> Planned | PlanRefusal:
        """The same, with what is reserved, and the features with which it was decided: a spent budget changes them."""
        features = situation.features
        try:
            model, adapter = find_model(features.model, self.settings.models, self._adapters_of)
        except NoSuchModel as error:
            return PlanRefusal("model_not_found", str(error), features, "model")
        if adapter:
            needs = msgspec.structs.replace(features.requirements, adapter=adapter)
            features = msgspec.structs.replace(features, model=model, requirements=needs)
        tenant = self.tenants.get(features.tenant)
        if tenant is None:
            return PlanRefusal("invalid_api_key", f"There is no tenant '{features.tenant}'.", features)
        if features.tier not in self.settings.tiers:
            # Recorded under another policy: here it is in the tenant's.
            features = msgspec.structs.replace(features, tier=tenant.tier)
        budget = None
        if tenant.budget is not None:
            if features.budget_used >= 1:
                features = msgspec.structs.replace(features, budget_spent=True)
            # Of a request that is said not to fit, what `when_spent` makes of it is taken to fit.
            if not features.budget_spent:
                budget = BudgetView.of_share(tenant.budget, features.budget_used, features.at)
        sizes = situation.sizes or PromptSizes.alike(features)
        decided = decide(self._planning, features, sizes, situation.load, budget, now)
        assert not isinstance(decided, SizesNeeded), "a situation has a size for every rung"
        return decided if isinstance(decided, PlanRefusal) else self._within_quota(decided)

    def _within_quota(self, planned: Planned) -> Planned | PlanRefusal:
        """A refusal if the request alone is more than its tenant may ever use in the time of a quota."""
        features, plan = planned.features, planned.plan
        tokens = planned.tokens
        if not features.max_tokens and plan.output_cap is None and self._of_unknown_length & set(plan.backends):
            # The server reserves what such an engine can make, which is a token at the least.
            tokens = planned.prompt_tokens + min(planned.output_bound, 1) * features.choices
        tenant = self.tenants[features.tenant]
        if tokens <= min(tenant.tokens.per_minute or tokens, tenant.tokens.per_day or tokens):
            return planned
        refusal = QuotaBook({features.tenant: tenant}).refusal(features.tenant, tokens, 0.0)
        assert refusal is not None, "the limit is exceeded"
        return PlanRefusal(f"{refusal.limit}_exceeded", str(refusal), features, plan=plan)

    def findings(self, situation: Situation) -> tuple[tuple[str, Finding], ...]:
        """The finding of each route's condition, the first that holds last; empty for an unknown tenant or model."""
        features = self.plan(situation).features
        if features.model not in self.settings.models or features.tenant not in self.tenants:
            return ()
        return self.policy.matcher.findings(features, situation.load)

    def _adapters_of(self, model: str) -> frozenset[str]:
        """Those that are loaded with an engine which may answer to this name."""
        if not self.settings.models[model].adapters:
            return frozenset()
        engines = [self.settings.engines.get(rung) for rung in self.policy.rungs_of(model)]
        return frozenset([name for engine in engines if engine is not None for name in engine.adapters])


def decision_of(planned: Planned | PlanRefusal) -> Decision:
    """Without what is reserved."""
    return planned.plan if isinstance(planned, Planned) else DecisionRefusal(planned.code, planned.message)


class DecisionOutcome(msgspec.Struct, frozen=True):
    """The parts of a decision that are compared."""

    refused: str = ""
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
