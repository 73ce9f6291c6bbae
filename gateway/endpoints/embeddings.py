"""`POST /v1/embeddings`."""

from functools import partial

import structlog

from actors.api.errors import Refusal
from actors.api.request import InferenceRequest, ParsedBody
from actors.api.response import Delta, Start
from gateway.endpoints.api_context import ApiContext, new_request_id, reading, whole_answer
from gateway.http.connection import Connection
from gateway.http.request import Body, Request
from gateway.http.response_head import JSON_TYPE
from gateway.openai.requests.embedding_request import EmbeddingBody, embedding_answer, read_embedding
from gateway.openai.requests.json_body import BodyDecoder
from gateway.openai.responses.headers import DecisionHeaders, served_headers

EMBEDDING = BodyDecoder(EmbeddingBody)
_NUMBER_BYTES = 5
"""JSON bytes for each byte of a float32 number, at most."""
log = structlog.get_logger()


def parse_embedding(raw: Body, max_inputs: int) -> ParsedBody:
    """Raises `BadField`."""
    body, _ = EMBEDDING.decode(raw)
    return read_embedding(body, max_inputs)


class EmbeddingHandler:
    """Handles requests for embeddings, which are never streamed."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api

    async def __call__(self, connection: Connection, request: Request) -> None:
        """Answer one request. When the client hangs up, the connection's cancel scope cancels this."""
        request_id = new_request_id()
        told = self._api.told(request_id, request.key)
        try:
            inference = await self._api.read(connection, request, request_id, self._parse)
            await self._answer(connection, inference, told)
        except Refusal as refusal:
            log.debug("request_refused", request_id=request_id, code=refusal.body.code, status=refusal.body.status)
            await connection.respond_error(refusal.body, told.headers())

    def _parse(self, raw: Body) -> ParsedBody:
        return parse_embedding(raw, self._api.max_inputs)

    async def _answer(self, connection: Connection, inference: InferenceRequest, told: DecisionHeaders) -> None:
        asked = inference.body.embedding
        assert asked is not None, "this endpoint asks for nothing else"
        found = [b""] * len(inference.body.prompts)
        response = await self._api.service.open(inference)
        told.decided = response.decided

        def take(event: Start | Delta) -> None:
            if isinstance(event, Delta):
                assert event.embedding is not None, "only embeddings were asked for"
                found[event.index] = event.embedding

        try:
            done = await whole_answer(response, take)
            size = _NUMBER_BYTES * sum(map(len, found))
            model = self._api.model_field(inference.body.model, done.served.model_served)
            answer = partial(embedding_answer, model, found, asked.encoding, done.usage, done.served)
            body = await reading(size, answer)
            await connection.respond(200, told.headers() + JSON_TYPE + served_headers(done.served), body)
        finally:
            response.close()
