"""Models that make text and models that make embeddings share routes and ladders, but never an answer."""

from collections.abc import Mapping

from msgspec.structs import replace

from policies.errors import CannotServe
from policies.model.backends import EmbeddingModel
from policies.model.features import Features
from policies.model.plan import Plan


def of_one_kind(plan: Plan, features: Features, encoders: Mapping[str, EmbeddingModel]) -> Plan:
    """The plan with the rungs that make what is asked for; `encoders` are the rungs that make embeddings.

    Raises CannotServe if there is none.
    """
    if features.requirements.embedding:
        return _embedding(plan, features, encoders)
    return _text(plan, features, encoders) if encoders else plan


def _embedding(plan: Plan, features: Features, encoders: Mapping[str, EmbeddingModel]) -> Plan:
    """Rungs of the first encoder's model only."""
    first = next((rung.to for rung in plan.rungs if rung.to in encoders), None)
    if first is None or plan.cascade is not None:
        raise CannotServe(
            f"The model '{features.model}' makes text, not embeddings. Ask a model for it that is an encoder.",
            param="model",
            code="model_makes_text",
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
    reasons = _with_left_out(plan, left_out, f"no embeddings of {first}'s model")
    return replace(plan, rungs=rungs, shadows=(), reasons=reasons)


def _other_sizes(model: EmbeddingModel) -> str:
    if model.shorter is None:
        return f"It was trained to be cut: give 'dimensions' from 1 to {model.whole}."
    if model.shorter:
        return f"It was trained to be cut to {', '.join(map(str, model.shorter))}: give one of these as 'dimensions'."
    return "It was not trained to be cut: leave 'dimensions' out."


def _text(plan: Plan, features: Features, encoders: Mapping[str, EmbeddingModel]) -> Plan:
    stages = () if plan.cascade is None else (plan.cascade.small.to, plan.cascade.large.to)
    rungs = tuple([rung for rung in plan.rungs if rung.to not in encoders])
    left_out = [rung.to for rung in plan.rungs if rung.to is not None and rung.to in encoders]
    nobody = plan.cascade is None and all(rung.to is None for rung in rungs) and left_out
    if nobody or any(stage in encoders for stage in stages):
        raise CannotServe(
            f"The model '{features.model}' makes embeddings, not text. Ask it at /v1/embeddings, or ask another model.",
            param="model",
            code="model_makes_embeddings",
        )
    shadows = tuple([shadow for shadow in plan.shadows if shadow.to not in encoders])
    return replace(plan, rungs=rungs, shadows=shadows, reasons=_with_left_out(plan, left_out, "no text"))


def _with_left_out(plan: Plan, left_out: list[str], what: str) -> tuple[str, ...]:
    return (*plan.reasons, *[f"{rung} is left out: it makes {what}" for rung in left_out])
