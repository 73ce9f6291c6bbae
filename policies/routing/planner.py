"""The way from a request's features to its final plan and what is to be reserved for it.

The server, the simulation, `policy explain` and the tests inside a policy all come this way, so that they agree.
"""

from collections.abc import Mapping

import msgspec

from config.model.tenancy import Budget, TenantSettings
from policies.admission.budget import BudgetRefusal, BudgetView, spending_options
from policies.admission.prices import worst_cost
from policies.errors import CannotServe, unsupported
from policies.model.backends import Backends
from policies.model.features import Features
from policies.model.load import Load
from policies.model.plan import Plan, capped, with_adapter
from policies.routing.modality import of_one_kind
from policies.routing.policy import Policy, make_plan
from policies.routing.release import released_safely
from policies.routing.token_budget import PromptSizes, output_bound

BUDGET_SPENT = "budget_spent"
"""The code of the refusal."""


class PlanningSnapshot(msgspec.Struct, frozen=True):
    """What does not change from one request to the next."""

    policy: Policy
    tenants: Mapping[str, TenantSettings]
    backends: Backends


class Planned(msgspec.Struct, frozen=True):
    """What a request may do, and what it needs in the worst case."""

    features: Features
    """With which it was planned: a spent budget may have changed them."""
    load: Load
    plan: Plan
    prompt_tokens: int
    """Of all prompts together, as the first rung reads them."""
    output_bound: int
    """Output tokens of a choice at the most, on whatever rung."""
    cost: float
    """Money to reserve."""

    @property
    def tokens(self) -> int:
        """To reserve."""
        return self.prompt_tokens + self.output_bound * self.features.choices


class PlanRefusal(msgspec.Struct, frozen=True):
    """The request cannot be served, or not for the money that is left."""

    code: str
    message: str
    features: Features
    """With which that was found out."""
    param: str | None = None
    """The field of the body that is to blame."""
    plan: Plan | None = None
    """Of a request for which there is no money: what would have been tried."""
    budget: BudgetRefusal | None = None


class SizesNeeded(msgspec.Struct, frozen=True):
    """Decide again with the prompts' sizes for this rung."""

    rung: str
    may_estimate: bool
    """An upstream may take what the rung cannot read."""


def decide(  # noqa: PLR0917  (all that a decision looks at)
    snapshot: PlanningSnapshot,
    features: Features,
    sizes: PromptSizes,
    load: Load,
    budget: BudgetView | None,
    now: float,
) -> Planned | PlanRefusal | SizesNeeded:
    """Plan a request that arrived at `now`, as it is or as its tenant's spent budget leaves it.

    The first of the two whose worst case fits into `budget` is taken; None: both are taken to fit. With
    `features.budget_spent` the request is known not to fit as it is. `features` name a tenant of the snapshot.
    """
    settings = snapshot.tenants[features.tenant].budget
    known_spent = features.budget_spent and settings is not None
    asked = msgspec.structs.replace(features, budget_spent=False) if features.budget_spent else features
    refusal: PlanRefusal | None = None
    for wanted in spending_options(asked, settings):
        try:
            planned = _planned(snapshot, wanted, sizes, load, now)
        except CannotServe as error:
            return PlanRefusal(error.code, str(error), wanted, error.param)
        if isinstance(planned, SizesNeeded):
            return planned
        fits = budget is None or budget.fits(planned.cost)
        if fits and not (known_spent and wanted is asked):
            return planned
        refusal = _spent(planned, settings, budget)
    assert refusal is not None, "there is always the request as it is"
    return refusal


def _planned(
    snapshot: PlanningSnapshot, features: Features, sizes: PromptSizes, load: Load, now: float
) -> Planned | SizesNeeded:
    """Raises CannotServe."""
    needs, backends = features.requirements, snapshot.backends
    plan = make_plan(snapshot.policy, features, load, now)
    plan = of_one_kind(plan, features, backends.encoders)
    if needs.adapter:
        plan = with_adapter(plan, needs.adapter)
    if needs.upstream_fields and not plan.has_upstream:
        name = needs.upstream_fields[0]
        raise CannotServe(unsupported(name), param=name, code="unsupported_parameter")
    reader = next(iter(plan.backends), features.model)
    lengths = sizes.of(reader)
    if lengths is None:
        return SizesNeeded(reader, plan.has_upstream)
    bound = output_bound(features, plan, lengths, backends.max_model_len)
    plan = released_safely(plan, features, max(lengths), backends.max_model_len)
    plan = capped(plan, features.max_tokens)
    prompt_tokens = sum(lengths)
    cost = worst_cost(snapshot.policy.prices, plan, prompt_tokens, bound * features.choices)
    return Planned(features, load, plan, prompt_tokens, bound, cost)


def _spent(planned: Planned, settings: Budget | None, view: BudgetView | None) -> PlanRefusal:
    tenant = planned.features.tenant
    refusal = None if view is None else BudgetRefusal(tenant, view, planned.cost)
    period = "" if settings is None else f" for this {settings.per}"
    message = f"The budget of tenant '{tenant}' is spent{period}." if refusal is None else str(refusal)
    return PlanRefusal(BUDGET_SPENT, message, planned.features, plan=planned.plan, budget=refusal)
