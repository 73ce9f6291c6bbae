"""Explains a decision: everything that it depended on, as data."""

import datetime as dt
import math
from collections.abc import Mapping
from typing import Literal

import msgspec

from config.model.routing import TARGETS, CascadeSettings
from policies.authoring.counterfactual import Counterfactual, counterfactuals
from policies.authoring.decision import Decider, Decision, DecisionOutcome, DecisionRefusal, decision_of, way
from policies.authoring.situation import Situation
from policies.cascade.calibration import probability_right, share_for_threshold
from policies.cascade.prompt_model import Priors, neutral_priors
from policies.model.features import Features
from policies.model.load import Load
from policies.model.plan import AttemptRecord, Degraded, Plan, PlannedCascade, PlannedRung, PlannedShadow
from policies.records.decision_record import DecisionRecord, Timings, TokenCounts, decision_record
from policies.rollout.experiment import unit_of
from policies.routing.complexity import Term
from policies.routing.conditions import Finding, condition_compiler
from policies.routing.planner import BUDGET_SPENT, Planned, PlanRefusal
from policies.routing.policy import CompiledCascade, CompiledRoute

_DAY_S = 86_400


class RouteSeen(msgspec.Struct, frozen=True):
    """One route that was examined. The last one is the one taken, unless the request was refused."""

    route: str
    owner: str
    taken: bool
    finding: Finding


class CalibrationTerms(msgspec.Struct, frozen=True):
    """The calibration behind the threshold."""

    name: str
    created: dt.date
    age_days: int
    stale: bool
    prompts: int
    expected_large_share: float
    probability_right: float
    """Probability that a small answer whose statistic equals the threshold is right."""


class BusyTerms(msgspec.Struct, frozen=True):
    """The cascade's `when_busy` and whether it holds."""

    signal: str
    stay_on: str
    holds: bool
    """With hysteresis; `finding` is the signal without it."""
    release_at: float
    dwell_s: float
    finding: Finding


ThresholdFrom = Literal["file", "calibration", "steering", "arm", "mode", "judge"]


class CascadeTerms(msgspec.Struct, frozen=True):
    """What a cascade's first stage and its escalation depend on."""

    planned: PlannedCascade
    threshold_from: ThresholdFrom
    """steering: a controller has moved it while serving. arm: from the calibration for the arm's own target, which no
    controller moves. mode: the mode does not use a threshold. judge: the cascade has none."""
    target: dict[str, float]
    """The cascade's target: "large_share", "budget_per_day" or "accuracy_of_large"."""
    small_can_serve: bool
    large_can_serve: bool
    calibration: CalibrationTerms | None
    skip_to_large: Finding | None
    busy: BusyTerms | None


class Arm(msgspec.Struct, frozen=True):
    """One arm's interval of [0, 1)."""

    name: str
    begin: float
    end: float


class ExperimentTerms(msgspec.Struct, frozen=True):
    """How the request was assigned to its arm."""

    name: str
    arm: str
    """"": it takes no part."""
    unit: str
    place: float | None
    """Hash of the request's unit in [0, 1); None: the unit is unknown."""
    rolled_back: bool
    arms: tuple[Arm, ...]


class DeadlineTerms(msgspec.Struct, frozen=True):
    """Seconds since the arrival, except `queue_s` (in the queue of one backend) and `stall_s` (between two tokens)."""

    queue_s: float
    ttft_s: float
    total_s: float
    stall_s: float
    first_by_s: float | None
    """A rung refuses at once if the first token is expected later; None: never."""


class BudgetTerms(msgspec.Struct, frozen=True):
    """The tenant's budget."""

    amount: float
    per: str
    used: float
    spent: bool
    when_spent: str


class ReservedTerms(msgspec.Struct, frozen=True):
    """What is set aside for the request until it has ended: its worst case."""

    tokens: int
    """Of the tenant's quotas: all prompts, and `output_bound` for each choice."""
    output_bound: int
    """Output tokens of a choice at the most, on whatever rung."""
    cost: float
    """Of the tenant's budget, by [prices]."""


class Happened(msgspec.Struct, frozen=True):
    """What happened to a request that was served."""

    request_id: str
    at: float
    policy: str
    differs: str
    """How the recorded decision differs from the explanation's `outcome`; "" if it does not.

    By another policy; or the server knew more than its record says, such as the lengths of its engines.
    """
    outcome: str
    code: str
    rung: str
    attempts: tuple[AttemptRecord, ...]
    statistic: float | None
    cost: float | None
    tokens: TokenCounts
    timings: Timings


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A complete explanation. Its keys are stable; new ones may be added."""

    schema: Literal[1] = 1
    policy: str
    features: Features
    """Features of the request as received, before a spent budget changes its tier."""
    load: Load
    refused: DecisionRefusal | None
    outcome: DecisionOutcome
    routes: tuple[RouteSeen, ...]
    """Up to the one that was taken."""
    routes_left: int
    complexity: tuple[Term, ...] | None
    """Summands of the score; None: the text is unknown."""
    budget: BudgetTerms | None
    experiment: ExperimentTerms | None
    cascade: CascadeTerms | None
    rungs: tuple[PlannedRung, ...]
    """The ladder."""
    way: tuple[str, ...]
    """All rungs in the order in which they are tried first."""
    shadows: tuple[PlannedShadow, ...]
    deadlines: DeadlineTerms | None
    output_cap: int | None
    midstream: str | None
    reasons: tuple[str, ...]
    degraded: tuple[Degraded, ...] = ()
    """In which ways less will be done than was asked for."""
    reserved: ReservedTerms | None = None
    would_change: tuple[Counterfactual, ...]
    happened: Happened | None = None
    notes: tuple[str, ...] = ()


def explain(
    decider: Decider,
    situation: Situation,
    *,
    terms: tuple[Term, ...] | None = None,
    record: DecisionRecord | None = None,
    notes: tuple[str, ...] = (),
) -> Explanation:
    """Decide and say why. `terms` are those of the request's own text; `record` is of the request, if it was served."""
    planned = decider.plan(situation)
    features = planned.features
    decision = decision_of(planned)
    plan = None if isinstance(decision, DecisionRefusal) else decision
    # Through a record, whose numbers and mappings can be encoded as JSON.
    plain = decision_record(
        request_id="",
        arrived_at=0.0,
        policy=decider.policy.digest,
        features=situation.features,
        load=situation.load,
        plan=plan,
    )
    seen = _routes(decider, situation)
    # The plan's route without the overrides of an arm.
    route = None if plan is None else next(it for it in decider.policy.routes if it.settings.name == plan.route)
    compiled = route if route is None or plan is None else route.arms.get(plan.arm, route)
    return Explanation(
        policy=plain.policy,
        features=plain.features,
        load=plain.load,
        refused=decision if isinstance(decision, DecisionRefusal) else None,
        outcome=DecisionOutcome.of(decision),
        routes=seen,
        routes_left=len(decider.policy.routes) - len(seen),
        complexity=terms,
        budget=_budget(decider, situation.features, planned),
        experiment=None if route is None or plan is None else _experiment(route, plan, features, situation.load),
        cascade=None
        if plain.plan is None or plain.plan.cascade is None or compiled is None or compiled.cascade is None
        else _cascade(decider, compiled.cascade, plain.plan.cascade, features, situation.load),
        rungs=() if plan is None else plan.rungs,
        way=() if plan is None else way(plan),
        shadows=() if plan is None else plan.shadows,
        deadlines=None if plan is None else _deadlines(decider, plan, features),
        output_cap=None if plan is None else plan.output_cap,
        midstream=None if plan is None else plan.midstream,
        reasons=() if plan is None else plan.reasons,
        degraded=() if plan is None else plan.degraded,
        reserved=ReservedTerms(planned.tokens, planned.output_bound, planned.cost)
        if isinstance(planned, Planned)
        else None,
        would_change=counterfactuals(decider, situation),
        happened=None if record is None else _happened(record, decision),
        notes=notes,
    )


def _routes(decider: Decider, situation: Situation) -> tuple[RouteSeen, ...]:
    seen = []
    owners = {route.settings.name: route.settings.owner for route in decider.policy.routes}
    for name, finding in decider.findings(situation):
        seen.append(RouteSeen(name, owners[name], finding.holds, finding))
        if finding.holds:
            break
    return tuple(seen)


def _budget(decider: Decider, features: Features, planned: Planned | PlanRefusal) -> BudgetTerms | None:
    tenant = decider.tenants.get(features.tenant)
    if tenant is None or tenant.budget is None:
        return None
    budget, left = tenant.budget, planned.features
    refused = isinstance(planned, PlanRefusal) and planned.code == BUDGET_SPENT
    spent = refused or left.budget_spent or bool(left.downgraded_from)
    return BudgetTerms(budget.amount, budget.per, features.budget_used, spent, budget.when_spent)


def _experiment(compiled: CompiledRoute, plan: Plan, features: Features, load: Load) -> ExperimentTerms | None:
    split = compiled.split
    if split is None:
        return None
    begins = (0.0, *(end for _, end in split.bounds))
    return ExperimentTerms(
        name=split.name,
        arm=plan.arm,
        unit=split.unit,
        place=split.place(features) if unit_of(features, split.unit) else None,
        rolled_back=split.name in load.rolled_back,
        arms=tuple(Arm(name, begin, end) for begin, (name, end) in zip(begins, split.bounds, strict=False)),
    )


def _cascade(
    decider: Decider, compiled: CompiledCascade, planned: PlannedCascade, features: Features, load: Load
) -> CascadeTerms:
    settings = compiled.settings
    return CascadeTerms(
        planned=planned,
        threshold_from=_threshold_from(compiled, load),
        target={name: value for name in TARGETS if (value := getattr(settings.target, name, None)) is not None},
        small_can_serve=load.can_serve(planned.small.to or ""),
        large_can_serve=load.can_serve(planned.large.to or ""),
        calibration=_calibration(settings, planned, features.at, features.priors),
        skip_to_large=None if compiled.skip_to_large is None else compiled.skip_to_large.find(features, load),
        busy=_busy(decider, compiled, features, load),
    )


def _threshold_from(compiled: CompiledCascade, load: Load) -> ThresholdFrom:
    settings = compiled.settings
    if settings.emit.mode == "verified":
        return "mode"
    if settings.defer.threshold is not None:
        return "file"
    if settings.defer.artefact is None:
        return "judge"
    if not compiled.follows_controller:
        return "arm"
    return "calibration" if math.isclose(compiled.threshold_under(load), compiled.threshold) else "steering"


def _calibration(
    settings: CascadeSettings, planned: PlannedCascade, at: float, priors: Mapping[str, Priors]
) -> CalibrationTerms | None:
    calibration = settings.defer.artefact
    if calibration is None:
        return None
    age = dt.datetime.fromtimestamp(at, dt.UTC).date() - calibration.created
    level = planned.threshold if planned.level is None else planned.level
    right = probability_right(calibration, planned.threshold)
    if calibration.prompt is not None and planned.level is not None:
        _, large = priors.get(planned.name) or neutral_priors(calibration.prompt)
        right = min(max(level + large, 0.0), 1.0)
    return CalibrationTerms(
        name=calibration.name,
        created=calibration.created,
        age_days=age.days,
        stale=age.days * _DAY_S > settings.defer.stale_after,
        prompts=calibration.data.prompts,
        expected_large_share=share_for_threshold(calibration, level),
        probability_right=right,
    )


def _busy(decider: Decider, compiled: CompiledCascade, features: Features, load: Load) -> BusyTerms | None:
    busy = compiled.settings.when_busy
    if busy is None:
        return None
    signal = condition_compiler(decider.settings)(decider.settings.signals[busy.signal])
    return BusyTerms(
        signal=busy.signal,
        stay_on=busy.stay_on,
        holds=(compiled.name, features.tier) in load.busy,
        release_at=busy.release_at,
        dwell_s=float(busy.dwell),
        finding=signal.find(features, load),
    )


def _deadlines(decider: Decider, plan: Plan, features: Features) -> DeadlineTerms:
    tier = decider.settings.tiers[features.tier]
    queue_s = float(tier.queue.wait) if plan.queue_s is None else plan.queue_s
    return DeadlineTerms(queue_s, plan.ttft_at, plan.total_at, plan.stall_s, plan.first_by)


def _happened(record: DecisionRecord, decision: Decision) -> Happened:
    recorded = {name: getattr(record, name) for name in Happened.__struct_fields__ if name != "differs"}
    return Happened(differs=_beside(record.plan, decision), **recorded)


def _beside(recorded: Plan | None, decision: Decision) -> str:
    if recorded is None:
        return ""
    then, now = DecisionOutcome.of(recorded), DecisionOutcome.of(decision)
    if then == now:
        return ""
    known = () if isinstance(decision, DecisionRefusal) else decision.reasons
    why = "; ".join([reason for reason in recorded.reasons if reason not in known])
    return then.beside(now) + (f" ({why})" if why else "")
