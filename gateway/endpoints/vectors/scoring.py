"""`POST /rerank`, `/score` and `/classify`."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from actors.api.request import InferenceRequest, ParsedBody
from actors.api.response import Done
from gateway.endpoints.api_context import ApiContext
from gateway.http.request import Body
from gateway.openai.requests.json_body import BodyDecoder
from gateway.vllm.asked_scores import AskedScores, FoundScores
from gateway.vllm.rerank_request import RerankBody, read_rerank, rerank_answer
from gateway.vllm.score_request import (
    ClassifyBody,
    ScoreBody,
    classify_answer,
    read_classify,
    read_score,
    score_answer,
)


class ReadScoring(Protocol):
    """Checks a decoded body. Raises `BadField`."""

    def __call__(self, body: Any, max_inputs: int, *, reads_pairs: bool) -> AskedScores:
        """`reads_pairs`: a classifier answers, which compares two texts itself; otherwise an embedding model does."""
        ...


class ScoringEndpoint(NamedTuple):
    """One of the addresses."""

    decoder: BodyDecoder
    read: ReadScoring
    answer: Callable[[Any, FoundScores], bytes]


RERANK = ScoringEndpoint(BodyDecoder(RerankBody), read_rerank, rerank_answer)
SCORE = ScoringEndpoint(BodyDecoder(ScoreBody), read_score, score_answer)
CLASSIFY = ScoringEndpoint(BodyDecoder(ClassifyBody), read_classify, classify_answer)


SCORING = {
    **dict.fromkeys(("/rerank", "/v1/rerank", "/v2/rerank"), RERANK),
    **dict.fromkeys(("/score", "/v1/score"), SCORE),
    "/classify": CLASSIFY,
}
"""By address."""


def parse_scoring(
    endpoint: ScoringEndpoint, raw: Body, max_inputs: int, reads_pairs: Callable[[str], bool]
) -> tuple[msgspec.Struct, AskedScores]:
    """The decoded body, and what it asks for. `reads_pairs`: whether a classifier answers for a model.

    Raises `BadField`.
    """
    body, _ = endpoint.decoder.decode(raw)
    return body, endpoint.read(body, max_inputs, reads_pairs=reads_pairs(body.model))


class ScoringCall:
    """One request: its body is needed again for its answer."""

    def __init__(self, api: ApiContext, endpoint: ScoringEndpoint) -> None:
        self._api = api
        self._endpoint = endpoint
        self._body: msgspec.Struct | None = None
        self._asked: AskedScores | None = None

    def parse(self, raw: Body) -> ParsedBody:
        """Raises `BadField`."""
        reads_pairs = self._api.service.reads_pairs
        self._body, self._asked = parse_scoring(self._endpoint, raw, self._api.max_inputs, reads_pairs)
        return self._asked.body

    def written(self, inference: InferenceRequest, vectors: list[bytes], done: Done) -> bytes:
        assert self._asked is not None, "it was parsed"
        model, served = inference.body.model, done.served
        identity = self._api.identity(inference.request_id, model, served.model_served, served.policy)
        labels = self._api.service.labels(served.rung)
        scores = self._asked.scores(vectors)
        return self._endpoint.answer(self._body, FoundScores(identity, scores, labels, done.usage, served))
