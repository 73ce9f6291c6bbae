"""How requests of batches are read and answered: as their endpoints do, each answer whole."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import msgspec

from actors.api.errors import ErrorBody
from actors.api.request import InferenceRequest, ParsedBody
from actors.batches.ports import BatchAnswer, Envelope
from actors.batches.records import LineFault, WaitingLine
from actors.request.response_stream import ResponseStream
from gateway.endpoints.api_context import ApiContext, whole_answer
from gateway.endpoints.completions import CHAT, COMPLETION, Endpoint, gather
from gateway.endpoints.responses.responses import RESPONSE
from gateway.endpoints.vectors.embeddings import EmbeddingCall
from gateway.endpoints.vectors.vector_answer import vector_body
from gateway.errors import BadField
from gateway.http.response_head import error_object
from gateway.openai.batches.line_format import answered_line, body_of, check_line, unanswered_line
from gateway.responses_api.response_object import asked_of

_EMBEDDINGS = "/v1/embeddings"
_ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETION,
    "/v1/responses": RESPONSE,
}


class GatewayFormats:
    """See `actors.batches.ports.BatchFormats`."""

    def __init__(self, api: ApiContext) -> None:
        self._api = api

    check: Callable[[bytes, str], Envelope | LineFault] = staticmethod(check_line)
    answered: Callable[[WaitingLine, str, int, bytes], bytes] = staticmethod(answered_line)
    unanswered: Callable[[WaitingLine, str, str], bytes] = staticmethod(unanswered_line)

    def parse(self, raw: bytes, endpoint: str) -> ParsedBody:
        """Raises HttpError."""
        body = body_of(raw)
        if endpoint == _EMBEDDINGS:
            return EmbeddingCall(self._api).parse(body)
        parsed = _ENDPOINTS[endpoint].parse(body, self._api.max_choices, self._api.extra_names)
        if parsed.response is not None:
            parsed = _unstored(parsed)
        return msgspec.structs.replace(parsed, streamed=False)

    async def answer(self, endpoint: str, request: InferenceRequest, response: BatchAnswer) -> bytes:
        """Raises Refusal."""
        api, body = self._api, request.body
        stream = cast("ResponseStream", response)
        if endpoint == _EMBEDDINGS:
            answered, _ = await vector_body(api, EmbeddingCall(api), request, stream)
            return answered
        of = _ENDPOINTS[endpoint]
        choices = [of.choice() for _ in range(len(body.prompts) * body.n)]
        done = await whole_answer(stream, partial(gather, choices))
        identity = api.identity(request.request_id, body.model, done.served.model_served, response.decided.policy)
        return of.whole(identity, choices, done.usage, done.served, body)

    @staticmethod
    def error(error: ErrorBody) -> bytes:
        return error_object(error)


def _unstored(parsed: ParsedBody) -> ParsedBody:
    """A response in a batch is in its results, and stored nowhere else. Raises BadField."""
    asked = asked_of(parsed)
    for name, given in (
        ("previous_response_id", bool(asked.previous)),
        ("conversation", bool(asked.conversation)),
        ("background", asked.background),
    ):
        if given:
            raise BadField(name, f"'{name}' is not served in a batch. Send the whole input.", "unsupported_parameter")
    fields = {**asked.fields, "store": False}
    return msgspec.structs.replace(parsed, response=msgspec.structs.replace(asked, stored=False, fields=fields))
