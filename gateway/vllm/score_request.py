"""`POST /score`, `/v1/score` and `/classify`: the bodies, checked, and the answers."""

from typing import Annotated, Any

import msgspec

from gateway.errors import BadField
from gateway.openai.json_text import encode, usage_fields
from gateway.openai.requests.fault import fault
from gateway.openai.requests.neutral import field_schema
from gateway.vllm.asked_scores import AskedScores, FoundScores, classified_texts, compared_texts
from policies.errors import unsupported

_Texts = Annotated[str | list[str], field_schema(minItems=1)]


class ScoreBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of `/score`; `null` counts as absent in every field."""

    model: str
    text_1: _Texts
    text_2: _Texts
    user: str | None = None


class ClassifyBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of `/classify`."""

    model: str
    input: _Texts
    activation: Annotated[bool | None, field_schema(enum=[True, None])] = None
    user: str | None = None


def read_score(body: ScoreBody, max_inputs: int, *, reads_pairs: bool) -> AskedScores:
    """Raises `BadField`."""
    firsts, seconds = _texts("text_1", body.text_1), _texts("text_2", body.text_2)
    if len(firsts) not in {1, len(seconds)}:
        raise fault("text_1", f"must be one text, or as many as 'text_2' has: {len(seconds)}, not {len(firsts)}.")
    return compared_texts(
        body.model,
        firsts,
        seconds,
        param="text_2",
        reads_pairs=reads_pairs,
        max_inputs=max_inputs,
        user=body.user,
    )


def read_classify(body: ClassifyBody, max_inputs: int, *, reads_pairs: bool) -> AskedScores:
    """Raises `BadField`."""
    del reads_pairs
    if body.activation is False:
        raise BadField("activation", unsupported("activation"), "unsupported_parameter")
    return classified_texts(body.model, _texts("input", body.input), max_inputs=max_inputs, user=body.user)


def _texts(name: str, value: str | list[str]) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not texts:
        raise fault(name, "must not be an empty list.")
    return texts


def score_answer(_: ScoreBody, found: FoundScores) -> bytes:
    """A score for each pair, in their order."""
    data = [{"index": index, "object": "score", "score": score} for index, (score,) in enumerate(found.scores)]
    return _listed("score", data, found)


def classify_answer(_: ClassifyBody, found: FoundScores) -> bytes:
    """The best label of each text, and the scores of all."""
    data = [
        {
            "index": index,
            "label": found.labels[scores.index(max(scores))],
            "probs": scores,
            "num_classes": len(scores),
        }
        for index, scores in enumerate(found.scores)
    ]
    return _listed("classify", data, found)


def _listed(what: str, data: list[dict[str, Any]], found: FoundScores) -> bytes:
    return encode(
        {
            "id": f"{what}-{found.identity.request_id}",
            "object": "list",
            "created": found.identity.created,
            "model": found.identity.model,
            "data": data,
            "usage": usage_fields(found.usage),
            "penstock": found.served,
        }
    )
