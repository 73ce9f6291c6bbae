"""`POST /v1/embeddings`."""

from actors.api.request import InferenceRequest, ParsedBody
from actors.api.response import Done
from gateway.endpoints.api_context import ApiContext
from gateway.http.request import Body
from gateway.openai.requests.embedding_request import EmbeddingBody, embedding_answer, read_embedding
from gateway.openai.requests.json_body import BodyDecoder

EMBEDDING = BodyDecoder(EmbeddingBody)


def parse_embedding(raw: Body, max_inputs: int) -> ParsedBody:
    """Raises `BadField`."""
    return read_embedding(EMBEDDING.decode(raw)[0], max_inputs)


class EmbeddingCall:
    """One request."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api

    def parse(self, raw: Body) -> ParsedBody:
        return parse_embedding(raw, self._api.max_inputs)

    def written(self, inference: InferenceRequest, embeddings: list[bytes], done: Done) -> bytes:
        params = inference.body.embedding
        assert params is not None, "this endpoint parses embedding requests only"
        model = self._api.model_field(inference.body.model, done.served.model_served)
        return embedding_answer(model, embeddings, params.encoding, done.usage, done.served)
