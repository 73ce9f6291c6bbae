"""Models that make text and models that make embeddings share routes and ladders, but never an answer."""

from collections.abc import Mapping

from msgspec.structs import replace

from actors.api.errors import InvalidRequest
from actors.api.request import EmbeddingParams, InferenceRequest
from config.model.settings import EngineSettings
from engine.model.encoder_config import EmbeddingSizes
from policies.model.plan import Plan


def of_one_kind(
    plan: Plan,
    request: InferenceRequest,
    encoders: Mapping[str, EmbeddingSizes],
    engines: Mapping[str, EngineSettings],
) -> Plan:
    """The plan with the rungs that make what is asked for; `encoders` are the rungs that make embeddings.

    Raises InvalidRequest if there is none.
    """
    if request.body.embedding is not None:
        return _embedding(plan, request, request.body.embedding, encoders, engines)
    return _text(plan, request, encoders) if encoders else plan


def _embedding(
    plan: Plan,
    request: InferenceRequest,
    asked: EmbeddingParams,
    encoders: Mapping[str, EmbeddingSizes],
    engines: Mapping[str, EngineSettings],
) -> Plan:
    """Rungs of the first encoder's directory: vectors of two models lie in two spaces, and cannot be compared."""
    first = next((rung.to for rung in plan.rungs if rung.to in encoders), None)
    if first is None or plan.cascade is not None:
        raise InvalidRequest(
            f"The model '{request.model}' makes text, not embeddings. Ask a model for it that is an encoder.",
            param="model",
            code="model_makes_text",
        )
    sizes = encoders[first]
    if asked.size is not None and not sizes.allows(asked.size):
        raise InvalidRequest(
            f"The model '{request.model}' makes embeddings of {sizes.whole} numbers, not of {asked.size}. "
            f"{_other_sizes(sizes)}",
            param="dimensions",
            code="dimensions_unsupported",
        )
    model = engines[first].model
    alike = {name for name in encoders if engines[name].model == model}
    rungs = tuple([rung for rung in plan.rungs if rung.to in alike])
    left_out = [str(rung.to or "a static answer") for rung in plan.rungs if rung not in rungs]
    return replace(plan, rungs=rungs, shadows=(), reasons=_told(plan, left_out, f"no embeddings of {first}'s model"))


def _other_sizes(sizes: EmbeddingSizes) -> str:
    if sizes.shorter is None:
        return f"It was trained to be cut: give 'dimensions' from 1 to {sizes.whole}."
    if sizes.shorter:
        return f"It was trained to be cut to {', '.join(map(str, sizes.shorter))}: give one of these as 'dimensions'."
    return "It was not trained to be cut: leave 'dimensions' out."


def _text(plan: Plan, request: InferenceRequest, encoders: Mapping[str, EmbeddingSizes]) -> Plan:
    stages = () if plan.cascade is None else (plan.cascade.small.to, plan.cascade.large.to)
    rungs = tuple([rung for rung in plan.rungs if rung.to not in encoders])
    left_out = [rung.to for rung in plan.rungs if rung.to is not None and rung.to in encoders]
    nobody = plan.cascade is None and all(rung.to is None for rung in rungs) and left_out
    if nobody or any(stage in encoders for stage in stages):
        raise InvalidRequest(
            f"The model '{request.model}' makes embeddings, not text. Ask it at /v1/embeddings, or ask another model.",
            param="model",
            code="model_makes_embeddings",
        )
    shadows = tuple([shadow for shadow in plan.shadows if shadow.to not in encoders])
    return replace(plan, rungs=rungs, shadows=shadows, reasons=_told(plan, left_out, "no text"))


def _told(plan: Plan, left_out: list[str], what: str) -> tuple[str, ...]:
    return (*plan.reasons, *[f"{rung} is left out: it makes {what}" for rung in left_out])
