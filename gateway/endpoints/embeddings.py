"""`POST /v1/embeddings`."""

from functools import partial

from actors.api.request import InferenceRequest, ParsedBody
from gateway.endpoints.api_context import VECTOR_BYTES, ApiContext, whole_vectors
from gateway.http.connection import Connection
from gateway.http.request import Body, Request
from gateway.http.response_head import JSON_TYPE
from gateway.openai.requests.embedding_request import EmbeddingBody, embedding_answer, read_embedding
from gateway.openai.requests.json_body import BodyDecoder
from gateway.openai.responses.headers import DecisionHeaders, served_headers

EMBEDDING = BodyDecoder(EmbeddingBody)


def parse_embedding(raw: Body, max_inputs: int) -> ParsedBody:
    """Raises `BadField`."""
    body, _ = EMBEDDING.decode(raw)
    return read_embedding(body, max_inputs)


class EmbeddingHandler:
    """Handles requests for embeddings, which are never streamed."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api

    async def __call__(self, connection: Connection, request: Request) -> None:
        await self._api.handle(connection, request, self._parse, self._answer)

    def _parse(self, raw: Body) -> ParsedBody:
        return parse_embedding(raw, self._api.max_inputs)

    async def _answer(
        self, connection: Connection, _: Request, inference: InferenceRequest, headers: DecisionHeaders
    ) -> None:
        params = inference.body.embedding
        assert params is not None, "this endpoint parses embedding requests only"
        response = await self._api.service.open(inference)
        headers.decided = response.decided
        try:
            embeddings, done = await whole_vectors(response, len(inference.body.prompts))
            size = VECTOR_BYTES * sum(map(len, embeddings))
            model = self._api.model_field(inference.body.model, done.served.model_served)
            answer = partial(embedding_answer, model, embeddings, params.encoding, done.usage, done.served)
            body = await self._api.reading(size, answer, inference.credentials.api_key)
            await connection.respond(200, headers.headers() + JSON_TYPE + served_headers(done.served), body)
        finally:
            response.close()
