"""`POST /v1/embeddings`."""

from functools import partial

from actors.api.request import InferenceRequest, ParsedBody
from actors.api.response import Done
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.vectors.vector_answer import answer_with_vectors
from gateway.http.connection import Connection
from gateway.http.request import Body, Request
from gateway.openai.requests.embedding_request import EmbeddingBody, embedding_answer, read_embedding
from gateway.openai.requests.json_body import BodyDecoder
from gateway.openai.responses.headers import DecisionHeaders

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
        await answer_with_vectors(self._api, connection, inference, headers, partial(self._written, inference))

    def _written(self, inference: InferenceRequest, embeddings: list[bytes], done: Done) -> bytes:
        params = inference.body.embedding
        assert params is not None, "this endpoint parses embedding requests only"
        model = self._api.model_field(inference.body.model, done.served.model_served)
        return embedding_answer(model, embeddings, params.encoding, done.usage, done.served)
