"""Answers that are made of vectors: embeddings, scores, moderations and decisions. They are never streamed."""

from collections.abc import Callable
from functools import partial

from actors.api.request import InferenceRequest
from actors.api.response import Delta, Done, Start
from actors.request.response_stream import ResponseStream
from gateway.endpoints.api_context import ApiContext, whole_answer
from gateway.http.connection import Connection
from gateway.http.response_head import JSON_TYPE
from gateway.openai.responses.headers import DecisionHeaders, served_headers

VECTOR_BYTES = 5
"""JSON bytes for each byte of a float32 number, at most."""


async def answer_with_vectors(
    api: ApiContext,
    connection: Connection,
    inference: InferenceRequest,
    headers: DecisionHeaders,
    written: Callable[[list[bytes], Done], bytes],
) -> None:
    """`written`: the body, of the vectors of all inputs (float32) and the answer's end. Raises Refusal."""
    response = await api.service.open(inference)
    headers.decided = response.decided
    try:
        vectors, done = await whole_vectors(response, len(inference.body.prompts))
        size = VECTOR_BYTES * sum(map(len, vectors))
        body = await api.reading(size, partial(written, vectors, done), inference.credentials.api_key)
        await connection.respond(200, headers.headers() + JSON_TYPE + served_headers(done.served), body)
    finally:
        response.close()


async def whole_vectors(response: ResponseStream, count: int) -> tuple[list[bytes], Done]:
    """The vectors of all `count` inputs, float32, and the answer's end. Raises Refusal."""
    vectors = [b""] * count

    def take(event: Start | Delta) -> None:
        if isinstance(event, Delta):
            assert event.embedding is not None, "nothing else is asked for"
            vectors[event.index] = event.embedding

    done = await whole_answer(response, take)
    return vectors, done
