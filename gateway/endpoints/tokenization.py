"""`POST /tokenize` and `POST /detokenize`, also below `/v1`."""

from functools import partial

from actors.api.request import InferenceRequest, ParsedBody
from gateway.endpoints.api_context import ApiContext
from gateway.http.connection import Connection
from gateway.http.request import Body, Request
from gateway.http.response_head import JSON_TYPE
from gateway.openai.requests.json_body import BodyDecoder
from gateway.openai.responses.headers import DecisionHeaders
from gateway.vllm.tokenize_request import (
    DetokenizeBody,
    TokenizeBody,
    detokenize_answer,
    read_detokenize,
    read_tokenize,
    tokenize_answer,
)

_TOKENIZE = BodyDecoder(TokenizeBody)
_DETOKENIZE = BodyDecoder(DetokenizeBody)
_TOKEN_BYTES = 8
"""JSON bytes for each token of an answer, about."""


class TokenizeHandler:
    """Handles requests for the tokens of a prompt."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api

    async def __call__(self, connection: Connection, request: Request) -> None:
        await self._api.handle(connection, request, _tokenize_body, self._answer)

    async def _answer(
        self, connection: Connection, _: Request, inference: InferenceRequest, headers: DecisionHeaders
    ) -> None:
        made = await self._api.service.tokenize(inference)
        size = _TOKEN_BYTES * len(made.tokens)
        body = await self._api.reading(size, partial(tokenize_answer, made), inference.credentials.api_key)
        await connection.respond(200, headers.headers() + JSON_TYPE, body)


class DetokenizeHandler:
    """Handles requests for the text of tokens."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api

    async def __call__(self, connection: Connection, request: Request) -> None:
        await self._api.handle(connection, request, _detokenize_body, self._answer)

    async def _answer(
        self, connection: Connection, _: Request, inference: InferenceRequest, headers: DecisionHeaders
    ) -> None:
        text = await self._api.service.detokenize(inference)
        body = await self._api.reading(len(text), partial(detokenize_answer, text), inference.credentials.api_key)
        await connection.respond(200, headers.headers() + JSON_TYPE, body)


def _tokenize_body(raw: Body) -> ParsedBody:
    body, given = _TOKENIZE.decode(raw)
    return read_tokenize(body, given)


def _detokenize_body(raw: Body) -> ParsedBody:
    body, _ = _DETOKENIZE.decode(raw)
    return read_detokenize(body)
