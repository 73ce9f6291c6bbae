"""From a request's features to its final plan and to what is reserved for it.

The server, the simulation, `policy explain` and the tests inside a policy all call `decide`, so that they agree. A plan
that `policies.routing.policy` made is adjusted here to what its backends can do: models that make text and models that
make embeddings share routes and ladders but never an answer, and in mode "window" a cascade may release tokens before
it has decided only if the large model can continue after them.
"""

import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Literal

import msgspec
from msgspec.structs import replace

from config.model.tenancy import Budget, TenantSettings
from policies.admission.budget import BudgetRefusal, BudgetView, spending_options
from policies.admission.prices import worst_cost
from policies.errors import CannotServe, NoSuchModel, unsupported
from policies.model.backends import Backends, EmbeddingModel
from policies.model.features import Features
from policies.model.load import Load
from policies.model.plan import Plan, capped, gated, with_adapter
from policies.routing.policy import Policy, make_plan
from policies.routing.token_budget import PromptSizes, output_bound

BUDGET_SPENT = "budget_spent"
"""The code of the refusal."""


_SHOWN = 200


class PlanningSnapshot(msgspec.Struct, frozen=True):
    """Planning inputs that are the same for many requests."""

    policy: Policy
    tenants: Mapping[str, TenantSettings]
    backends: Backends


class Planned(msgspec.Struct, frozen=True):
    """A request's final plan, and what to reserve for its worst case."""

    features: Features
    """As planned: a spent budget may have changed them."""
    load: Load
    plan: Plan
    prompt_tokens: int
    """Of all prompts together, as the first rung reads them."""
    output_bound: int
    """Maximum output tokens of a choice on any rung."""
    cost: float
    """Money to reserve."""

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_bound * self.features.choices


class PlanRefusal(msgspec.Struct, frozen=True):
    """The request cannot be served, or exceeds the remaining budget."""

    code: str
    message: str
    features: Features
    """As planned: a spent budget may have changed them."""
    param: str | None = None
    """The field of the body that is at fault."""
    plan: Plan | None = None
    """The plan of a request that exceeds its budget."""
    budget: BudgetRefusal | None = None


class SizesNeeded(msgspec.Struct, frozen=True):
    """Call `decide` again with the prompts' sizes for this rung."""

    rung: str
    may_estimate: bool
    """An upstream may take prompts that the rung cannot encode."""


def decide(  # noqa: PLR0917  (all inputs of a plan)
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
    unspent = msgspec.structs.replace(features, budget_spent=False) if features.budget_spent else features
    refusal: PlanRefusal | None = None
    for wanted in spending_options(unspent, settings):
        try:
            planned = _planned(snapshot, wanted, sizes, load, now)
        except CannotServe as error:
            return PlanRefusal(error.code, str(error), wanted, error.param)
        if isinstance(planned, SizesNeeded):
            return planned
        fits = budget is None or budget.fits(planned.cost)
        if fits and not (known_spent and wanted is unspent):
            return planned
        refusal = _spent(planned, settings, budget)
    assert refusal is not None, "the unchanged request is always an option"
    return refusal


def _planned(
    snapshot: PlanningSnapshot, features: Features, sizes: PromptSizes, load: Load, now: float
) -> Planned | SizesNeeded:
    """Raises CannotServe."""
    needs, known = features.requirements, snapshot.backends.max_model_len
    plan = make_plan(snapshot.policy, features, load, now)
    plan = of_one_kind(plan, features, snapshot.backends.encoders)
    if needs.adapter:
        plan = with_adapter(plan, needs.adapter)
    if needs.upstream_fields and not plan.has_upstream:
        name = needs.upstream_fields[0]
        raise CannotServe(unsupported(name), param=name, code="unsupported_parameter")
    backends = plan.backends
    reader = backends[0] if backends else features.model
    lengths = sizes.of(reader)
    if lengths is None:
        return SizesNeeded(reader, plan.has_upstream)
    context_lengths = [known[name] for name in backends if name in known]
    bound = output_bound(features, plan.output_cap, lengths, context_lengths)
    if plan.cascade is not None:
        plan = released_safely(plan, features, max(lengths), known)
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


def of_one_kind(plan: Plan, features: Features, encoders: Mapping[str, EmbeddingModel]) -> Plan:
    """The plan with only the rungs that make what is requested: text, or what `encoders` make.

    Raises CannotServe if there is none.
    """
    if features.requirements.embedding:
        return _embedding(plan, features, encoders)
    return _text(plan, features, encoders) if encoders else plan


def _embedding(plan: Plan, features: Features, encoders: Mapping[str, EmbeddingModel]) -> Plan:
    """Keep the rungs of the first encoder's model that makes what is requested."""
    needs = features.requirements
    mine = [rung.to for rung in plan.rungs if rung.to is not None and rung.to in encoders]
    first = next((name for name in mine if bool(encoders[name].labels) == bool(needs.scores)), None)
    if first is None or plan.cascade is not None:
        raise _makes_another(features, encoders[mine[0]] if mine and plan.cascade is None else None)
    if needs.scores == "one" and encoders[first].labels != 1:
        raise CannotServe(
            f"The model '{features.model}' has {encoders[first].labels} labels, and so not one score. Ask it at "
            "/classify, or ask another model.",
            param="model",
            code="model_has_labels",
        )
    model, size = encoders[first], features.requirements.dimensions
    if size is not None and not model.allows(size):
        raise CannotServe(
            f"The model '{features.model}' makes embeddings of {model.whole} numbers, not of {size}. "
            f"{_other_sizes(model)}",
            param="dimensions",
            code="dimensions_unsupported",
        )
    alike = {name for name, each in encoders.items() if each.folder == model.folder}
    rungs = tuple([rung for rung in plan.rungs if rung.to in alike])
    left_out = [str(rung.to or "a static answer") for rung in plan.rungs if rung not in rungs]
    made = "scores" if needs.scores else "embeddings"
    reasons = _with_left_out(plan, left_out, f"no {made} of {first}'s model")
    return replace(plan, rungs=rungs, shadows=(), reasons=reasons)


def _makes_another(features: Features, model: EmbeddingModel | None) -> CannotServe:
    """Why the model cannot make what is requested; `model`: its first encoder."""
    wanted, named = ("scores", "a classifier") if features.requirements.scores else ("embeddings", "an embedding model")
    made = _made_by(model)
    return CannotServe(
        f"The model '{features.model}' makes {made}, not {wanted}. Choose {named}; GET /v1/models lists the models.",
        param="model",
        code=f"model_makes_{made}",
    )


def _made_by(model: EmbeddingModel | None) -> Literal["text", "scores", "embeddings"]:
    if model is None:
        return "text"
    return "scores" if model.labels else "embeddings"


def _other_sizes(model: EmbeddingModel) -> str:
    if model.shorter is None:
        return f"It can be shortened: give 'dimensions' from 1 to {model.whole}."
    if model.shorter:
        return f"It can be shortened to {', '.join(map(str, model.shorter))}: give one of these as 'dimensions'."
    return "It cannot be shortened: leave 'dimensions' out."


def _text(plan: Plan, features: Features, encoders: Mapping[str, EmbeddingModel]) -> Plan:
    stages = () if plan.cascade is None else (plan.cascade.small.to, plan.cascade.large.to)
    rungs = tuple([rung for rung in plan.rungs if rung.to not in encoders])
    left_out = [rung.to for rung in plan.rungs if rung.to is not None and rung.to in encoders]
    no_text = plan.cascade is None and all(rung.to is None for rung in rungs) and left_out
    if no_text or any(stage in encoders for stage in stages):
        made = _made_by(encoders[next(name for name in (*left_out, *stages) if name in encoders)])
        where = "/v1/embeddings" if made == "embeddings" else "/classify, /score or /rerank"
        raise CannotServe(
            f"The model '{features.model}' makes {made}, not text. Ask it at {where}, or ask another model.",
            param="model",
            code=f"model_makes_{made}",
        )
    shadows = tuple([shadow for shadow in plan.shadows if shadow.to not in encoders])
    return replace(plan, rungs=rungs, shadows=shadows, reasons=_with_left_out(plan, left_out, "no text"))


def _with_left_out(plan: Plan, left_out: list[str], what: str) -> tuple[str, ...]:
    return (*plan.reasons, *[f"{rung} is left out: it makes {what}" for rung in left_out])


def released_safely(plan: Plan, features: Features, prompt_tokens: int, max_model_len: Mapping[str, int]) -> Plan:
    """The plan, with mode "gate" where a window is not safe; `prompt_tokens`: of the longest prompt."""
    cascade = plan.cascade
    if cascade is None or cascade.mode != "window":
        return plan
    reason = _too_long_to_continue(plan, features, prompt_tokens, max_model_len)
    if reason is not None:
        return gated(plan, reason)
    # They must come from the model that answers in the end.
    if features.requirements.prompt_logprobs:
        return gated(plan, "the prompt's log-probabilities are asked for")
    # A part of an atomic answer is useless.
    if features.requirements.bound_to in cascade.atomic:
        return gated(plan, f"the answer is atomic ({features.requirements.bound_to})")
    return plan


def _too_long_to_continue(
    plan: Plan, features: Features, prompt_tokens: int, max_model_len: Mapping[str, int]
) -> str | None:
    """Why the large model may be unable to continue the longest output of the small one; None: it can."""
    cascade, max_tokens = plan.cascade, features.max_tokens
    assert cascade is not None
    if cascade.start_on != "small" or not cascade.may_escalate:
        return None
    small, large = max_model_len.get(cascade.small.to or ""), max_model_len.get(cascade.large.to or "")
    if small is None or large is None:
        return None
    output_tokens = min([bound for bound in (max_tokens, plan.output_cap) if bound] or [small - prompt_tokens])
    # A limit of the route alone is cut to the small model's room.
    output_tokens = output_tokens if max_tokens else min(output_tokens, small - prompt_tokens)
    if prompt_tokens + max(output_tokens, 1) <= large:
        return None
    return f"{cascade.large.to} holds {large} tokens, fewer than the answer may need"


def find_model(
    requested: str, models: Collection[str], adapters_of: Callable[[str], Collection[str]]
) -> tuple[str, str]:
    """The model and the adapter of a client's `model`: NAME or NAME:ADAPTER; "" without one. Raises NoSuchModel."""
    if requested in models:
        return requested, ""
    model, _, adapter = requested.rpartition(":")
    if model in models and adapter in adapters_of(model):
        return model, adapter
    known = [*models, *(f"{model}:{adapter}" for model in models for adapter in adapters_of(model))]
    nearest = difflib.get_close_matches(requested[:_SHOWN], known, n=1)
    raise NoSuchModel(requested[:_SHOWN], nearest[0] if nearest else None)
