"""`POST /v1/messages/count_tokens`."""

from actors.api.request import InferenceRequest, ParsedBody
from gateway.anthropic.message_request import MessagesBody, read_count
from gateway.endpoints.api_context import ApiContext
from gateway.http.connection import Connection
from gateway.http.request import Body, Request
from gateway.http.response_head import JSON_TYPE
from gateway.openai.requests.json_body import BodyDecoder
from gateway.openai.responses.headers import DecisionHeaders

_decoder = BodyDecoder(MessagesBody)


class TokenCountHandler:
    """Handles requests for the number of tokens of a prompt."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api

    async def __call__(self, connection: Connection, request: Request) -> None:
        await self._api.handle(connection, request, _parse, self._answer)

    async def _answer(
        self, connection: Connection, _: Request, inference: InferenceRequest, headers: DecisionHeaders
    ) -> None:
        tokens = await self._api.service.count_tokens(inference)
        await connection.respond(200, headers.headers() + JSON_TYPE, b'{"input_tokens":%d}' % tokens)


def _parse(raw: Body) -> ParsedBody:
    body, given = _decoder.decode(raw)
    return read_count(body, given)
