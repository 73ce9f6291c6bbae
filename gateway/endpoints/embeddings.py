"""`POST /v1/embeddings`."""

from functools import partial

import structlog

from actors.api.errors import Refusal
from actors.api.request import InferenceRequest
from actors.api.response import Delta, Start
from engine.sampling.params import SamplingParams
from gateway.endpoints.api_context import ApiContext, Credentials, new_request_id
from gateway.endpoints.collect import whole_answer
from gateway.endpoints.completions import ParsedBody
from gateway.endpoints.offload import reading
from gateway.http.connection import Connection
from gateway.http.request import Body, Request
from gateway.http.response_head import JSON_TYPE
from gateway.openai.requests.embedding_request import (
    EmbeddingBody,
    Encoding,
    embedding_answer,
    embedding_inputs,
    embedding_params,
)
from gateway.openai.requests.json_body import BodyDecoder
from gateway.openai.responses.decision_headers import DecisionHeaders, served_headers

EMBEDDING = BodyDecoder(EmbeddingBody)
_NO_TOKENS = SamplingParams(max_tokens=0)
_NUMBER_BYTES = 5
"""A number of four bytes takes up to so many times its bytes in JSON."""
log = structlog.get_logger()


def read_embedding(body: EmbeddingBody, max_inputs: int) -> ParsedBody:
    """Raises `BadField`."""
    return ParsedBody(embedding_inputs(body, max_inputs), _NO_TOKENS, 1, None, embedding_params(body))


class EmbeddingHandler:
    """Answers whole: an embedding has no parts that could be shown before."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api

    async def __call__(self, connection: Connection, request: Request) -> None:
        """Answer one request; the connection's scope ends it when the client hangs up."""
        request_id = new_request_id()
        key = request.key
        told = self._api.told(request_id, key)
        try:
            with self._api.edge_line(request_id, request.path.decode("latin1"), request.arrived_at, key):
                body, asked = await reading(len(request.body), partial(self._read, request.body))
                inference = Credentials.of(request).asks(
                    request_id=request_id,
                    model=body.model,
                    prompts=asked.prompts,
                    params=asked.params,
                    n=asked.n,
                    embedding=asked.embedding,
                    user=body.user,
                    streamed=False,
                    body_bytes=len(request.body),
                    arrived_at=request.arrived_at,
                )
                connection.drop_body(request)
                connection.watch()
            await self._answer(connection, inference, told, body.encoding_format or "float")
        except Refusal as refusal:
            log.debug("request_refused", request_id=request_id, code=refusal.body.code, status=refusal.body.status)
            await connection.respond_error(refusal.body, told.headers())

    def _read(self, raw: Body) -> tuple[EmbeddingBody, ParsedBody]:
        body, _ = EMBEDDING.decode(raw)
        return body, read_embedding(body, self._api.max_inputs)

    async def _answer(
        self, connection: Connection, inference: InferenceRequest, told: DecisionHeaders, encoding: Encoding
    ) -> None:
        found = [b""] * len(inference.prompts)
        response = await self._api.service.open(inference)
        told.decided = response.decided

        def take(event: Start | Delta) -> None:
            if isinstance(event, Delta):
                assert event.embedding is not None, "only embeddings were asked for"
                found[event.index] = event.embedding

        try:
            done = await whole_answer(response, take)
            size = _NUMBER_BYTES * sum(map(len, found))
            model = self._api.model_field(inference.model, done.served.model_served)
            answer = partial(embedding_answer, model, found, encoding, done.usage, done.served)
            body = await reading(size, answer)
            await connection.respond(200, told.headers() + JSON_TYPE + served_headers(done.served), body)
        finally:
            response.close()
