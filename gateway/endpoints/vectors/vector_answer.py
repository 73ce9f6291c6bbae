"""Answers that are made of vectors: embeddings, scores, moderations and decisions. They are never streamed."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from actors.api.request import InferenceRequest, ParsedBody
from actors.api.response import Delta, Done, Start
from actors.request.response_stream import ResponseStream
from gateway.endpoints.api_context import ApiContext, whole_answer
from gateway.http.connection import Connection
from gateway.http.request import Body, Request
from gateway.http.response_head import JSON_TYPE
from gateway.openai.responses.headers import DecisionHeaders, served_headers

_VECTOR_BYTES = 5
"""JSON bytes for each byte of a float32 number, at most."""


class VectorCall(Protocol):
    """One request; what it asked is needed again for its answer."""

    def parse(self, raw: Body) -> ParsedBody:
        """Raises Refusal."""
        ...

    def written(self, inference: InferenceRequest, vectors: list[bytes], done: Done) -> bytes:
        """The answer's body, of the vectors of all inputs (float32) and its end."""
        ...


class VectorHandler:
    """Handles the requests of one address."""

    def __init__(self, api: ApiContext, call: Callable[[], VectorCall]) -> None:
        self._api = api
        self._call = call

    async def __call__(self, connection: Connection, request: Request) -> None:
        call = self._call()
        await self._api.handle(connection, request, call.parse, partial(self._answer, call))

    async def _answer(
        self,
        call: VectorCall,
        connection: Connection,
        _: Request,
        inference: InferenceRequest,
        headers: DecisionHeaders,
    ) -> None:
        response = await self._api.service.open(inference)
        headers.decided = response.decided
        try:
            body, done = await vector_body(self._api, call, inference, response)
            await connection.respond(200, headers.headers() + JSON_TYPE + served_headers(done.served), body)
        finally:
            response.close()


async def vector_body(
    api: ApiContext, call: VectorCall, inference: InferenceRequest, response: ResponseStream
) -> tuple[bytes, Done]:
    """The answer's body and its end. Raises Refusal."""
    vectors = [b""] * len(inference.body.prompts)

    def take(event: Start | Delta) -> None:
        if isinstance(event, Delta):
            assert event.embedding is not None, "nothing else is asked for"
            vectors[event.index] = event.embedding

    done = await whole_answer(response, take)
    size = _VECTOR_BYTES * sum(map(len, vectors))
    write = partial(call.written, inference, vectors, done)
    return await api.reading(size, write, inference.credentials.api_key), done
