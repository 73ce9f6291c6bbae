"""`POST /rerank`, `/v1/rerank` and `/v2/rerank`: Cohere's and Jina's body, and the answer that both read."""

from typing import Annotated, Any

import msgspec

from gateway.errors import BadField
from gateway.openai.json_text import encode
from gateway.openai.requests.fault import fault
from gateway.openai.requests.neutral import field_schema
from gateway.vllm.asked_scores import AskedScores, FoundScores, compared_texts
from policies.errors import unsupported

_TEXT_ONLY = [["text"], []]
_AtLeastOne = Annotated[int | None, field_schema(minimum=1)]
_Document = Annotated[dict[str, Any], field_schema(properties={"text": {"type": "string"}}, required=["text"])]


class RerankBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body; `null` counts as absent in every field."""

    model: str
    query: Annotated[str, field_schema(minLength=1)]
    documents: Annotated[list[str | _Document], field_schema(minItems=1)]
    top_n: _AtLeastOne = None
    return_documents: bool | None = None
    max_tokens_per_doc: _AtLeastOne = None
    rank_fields: Annotated[list[str] | None, field_schema(enum=[*_TEXT_ONLY, None])] = None
    max_chunks_per_doc: Annotated[int | None, field_schema(enum=[1, None])] = None
    priority: Annotated[int | None, field_schema(enum=[0, None])] = None
    user: str | None = None


def read_rerank(body: RerankBody, max_inputs: int, *, reads_pairs: bool) -> AskedScores:
    """Raises `BadField`."""
    without_effect = {
        "rank_fields": body.rank_fields is None or body.rank_fields in _TEXT_ONLY,
        "max_chunks_per_doc": body.max_chunks_per_doc in {None, 1},
        "priority": not body.priority,
    }
    for name, harmless in without_effect.items():
        if not harmless:
            raise BadField(name, unsupported(name), "unsupported_parameter")
    for name, value in (("top_n", body.top_n), ("max_tokens_per_doc", body.max_tokens_per_doc)):
        if value is not None and value < 1:
            raise fault(name, f"must be at least 1, not {value}.")
    if not body.query:
        raise fault("query", "must not be an empty string.")
    if not body.documents:
        raise fault("documents", "must not be an empty list.")
    return compared_texts(
        body.model,
        [body.query],
        [_text(index, each) for index, each in enumerate(body.documents)],
        param="documents",
        reads_pairs=reads_pairs,
        max_inputs=max_inputs,
        user=body.user,
        cut=body.max_tokens_per_doc,
        roles=("query", "document"),
    )


def _text(index: int, document: str | dict[str, Any]) -> str:
    text = document if isinstance(document, str) else document.get("text")
    if not isinstance(text, str):
        raise fault(f"documents[{index}].text", "must be a string.", "invalid_type")
    return text


def rerank_answer(body: RerankBody, found: FoundScores) -> bytes:
    """The documents by their scores, the best one first."""
    scores = [score for (score,) in found.scores]
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.top_n]
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": scores[index]} for index in best]
    if body.return_documents:
        for result in results:
            document = body.documents[result["index"]]
            result["document"] = {"text": document} if isinstance(document, str) else document
    tokens = found.usage.prompt_tokens
    return encode(
        {
            "id": f"rerank-{found.identity.request_id}",
            "model": found.identity.model,
            "results": results,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "penstock": found.served,
        }
    )
