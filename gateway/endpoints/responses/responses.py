"""`POST /v1/responses`: what the other endpoints do, after what was stored before, and stored in turn."""

from functools import partial
from typing import Any

import msgspec
import structlog

from actors.api.errors import NotFound, Unavailable
from actors.api.request import AskedResponse, InferenceRequest, ParsedBody
from actors.api.response import Delta, Done, Failed, Start
from actors.kept.kept_answer import KeptAnswer, KeptReader
from actors.stored.response_store import GetChain, GetItems
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.completions import CompletionHandler, Endpoint
from gateway.endpoints.kept_answers import position_of
from gateway.errors import BadField
from gateway.http.connection import Connection
from gateway.http.request import Body, Request
from gateway.http.response_head import JSON_TYPE
from gateway.openai.json_text import encode
from gateway.openai.requests.json_body import BodyDecoder
from gateway.openai.responses.headers import DecisionHeaders
from gateway.responses_api.event_renderer import ResponseRenderer, break_off
from gateway.responses_api.request_body import ResponseBody, read_response, with_history
from gateway.responses_api.response_object import ResponseObject, ResponseStatus, WholeResponse, asked_of, response_body
from gateway.responses_api.stored import history_of, items_of_conversation, put_response

RESPONSES = b"/v1/responses/"
STARTING_AFTER = "starting_after"
RESPONSE = Endpoint(
    "responses",
    BodyDecoder(ResponseBody),
    read_response,
    ResponseRenderer,
    response_body,
    choice=WholeResponse,
    break_off=break_off,
)
log = structlog.get_logger()


class ResponseHandler(CompletionHandler):
    """Handles requests for responses."""

    def __init__(self, api: ApiContext) -> None:
        super().__init__(api, RESPONSE)
        api.service.kept.on_ended = self._store_kept

    async def _answer(
        self, connection: Connection, request: Request, inference: InferenceRequest, headers: DecisionHeaders
    ) -> None:
        with self._api.refusal_log(inference.request_id, inference.credentials.path, request.arrived_at, request.key):
            inference = await self.continued(inference)
        await super()._answer(connection, request, inference, headers)

    async def continued(self, inference: InferenceRequest) -> InferenceRequest:
        """The request with the conversation before it. Raises Refusal."""
        service, asked = self._api.service, _asked(inference)
        key = inference.credentials.api_key
        tenant = service.clients.tenant_of(key, inference.body)
        if not service.stored.keeps:
            if asked.previous or asked.conversation:
                name = "previous_response_id" if asked.previous else "conversation"
                raise BadField(
                    name, f"'{name}': this server stores no responses. Send the whole input.", "unsupported_parameter"
                )
            fields = {**asked.fields, "store": False}
            return _with(inference, msgspec.structs.replace(asked, stored=False, fields=fields))
        if asked.stored:
            service.stored.check()
        asked = msgspec.structs.replace(asked, tenant=tenant)
        inference = _with(inference, asked)
        if asked.previous:
            chain = await service.stored.ask(GetChain(tenant, asked.previous))
            if not chain or chain[0].previous:
                missing = chain[0].previous if chain else asked.previous
                raise BadField(
                    "previous_response_id",
                    f"Previous response with id '{missing[:80]}' not found: it was not stored, has been deleted, or is "
                    "still running.",
                    "previous_response_not_found",
                )
            size = sum([len(each.body) + len(each.items) for each in chain])
            read = partial(history_of, chain)
        elif asked.conversation:
            items = await service.stored.ask(GetItems(tenant, asked.conversation))
            if items is None:
                raise conversation_not_found(asked.conversation)
            size = sum([len(each.item) for each in items])
            read = partial(items_of_conversation, items)
        else:
            return inference
        # The body is read again, with what was before it.
        size += inference.body_bytes
        body = await self._api.reading(size, lambda: with_history(inference.body, read()), key)
        return msgspec.structs.replace(inference, body=body)

    async def _begun(self, connection: Connection, reader: KeptReader, headers: DecisionHeaders) -> bool:
        answer = reader.answer
        if answer.request.body.streamed:
            return False
        try:
            await self._api.service.kept.written()
            await connection.respond(200, headers.headers() + JSON_TYPE, encode(kept_response(self._api, answer)))
        finally:
            reader.close()
        return True

    def _position(self, request: Request) -> int:
        """At the address of a response, events are counted from 0 on."""
        if not request.path.startswith(RESPONSES):
            return position_of(request)
        after = parameters_of(request).get(STARTING_AFTER)
        if after is None:
            return 0
        if not after.isdecimal() or len(after) > 15:
            raise BadField(STARTING_AFTER, f"'{STARTING_AFTER}' is the sequence_number of the last event that came.")
        return int(after) + 1

    async def _ended(self, inference: InferenceRequest, reader: KeptReader | None, answer: bytes) -> None:
        # A kept answer is stored once, when it ends, and not by each of its readers: by the first of them only if it
        # has become too long to be kept.
        if reader is None or reader.answer.hand_on():
            await self.store(inference, answer)

    async def store(self, inference: InferenceRequest, answer: bytes) -> None:
        """Store the response as it has ended, if that is asked for."""
        asked = _asked(inference)
        if not asked.stored:
            return
        # The client gets its answer in any case: what could be known before was checked before.
        try:
            await self._api.service.stored.ask(put_response(answer, asked))
        except Unavailable:
            log.warning("response_not_stored", request_id=inference.request_id)

    def _store_kept(self, answer: KeptAnswer) -> None:
        """A kept answer has ended, perhaps without a reader."""
        if answer.endpoint != RESPONSE.name or not _asked(answer.request).stored:
            return
        try:
            put = put_response(encode(kept_response(self._api, answer)), _asked(answer.request))
            # The process that has ended may have stored it.
            put = msgspec.structs.replace(put, only_new=answer.restored != 0)
            self._api.service.stored.tell(put)
        except Unavailable:
            log.warning("response_not_stored", request_id=answer.request.request_id)


class InputTokensHandler:
    """Handles `POST /v1/responses/input_tokens`: how long the prompt of a response would be."""

    def __init__(self, api: ApiContext, responses: ResponseHandler) -> None:
        self._api = api
        self._responses = responses

    async def __call__(self, connection: Connection, request: Request) -> None:
        await self._api.handle(connection, request, self._parse, self._answer)

    def _parse(self, raw: Body) -> ParsedBody:
        body = RESPONSE.parse(raw, self._api.max_choices)
        return msgspec.structs.replace(body, response=msgspec.structs.replace(asked_of(body), stored=False))

    async def _answer(
        self, connection: Connection, request: Request, inference: InferenceRequest, headers: DecisionHeaders
    ) -> None:
        with self._api.refusal_log(inference.request_id, inference.credentials.path, request.arrived_at, request.key):
            inference = await self._responses.continued(inference)
        tokens = await self._api.service.count_tokens(inference)
        body = encode({"object": "response.input_tokens", "input_tokens": tokens})
        await connection.respond(200, headers.headers() + JSON_TYPE, body)


def kept_response(api: ApiContext, answer: KeptAnswer, status: ResponseStatus | None = None) -> dict[str, Any]:
    """The object of a kept answer as far as it is; `status`: in place of its own."""
    events, request = answer.events, answer.request
    served = next((event.model_served for event in events if isinstance(event, Start)), "")
    policy = "" if answer.decided is None else answer.decided.policy
    identity = api.identity(request.request_id, request.body.model, served, policy, answer.created)
    made = ResponseObject(identity, request.body)
    for event in events:
        if isinstance(event, Delta):
            made.output.take(event)
    last = events[-1] if events else None
    if isinstance(last, Done):
        return made.ended(last.usage, last.served)
    if status is None and answer.ended:
        usage = last.usage if isinstance(last, Failed) else None
        return made.fields("failed", error=answer.error, usage=usage)
    return made.fields(status or ("in_progress" if events else "queued"))


def conversation_not_found(conversation_id: str) -> NotFound:
    """The error for an id that is wrong, or another tenant's."""
    return NotFound("conversation_not_found", f"Conversation with id '{conversation_id[:80]}' not found.")


def parameters_of(request: Request) -> dict[str, str]:
    """Those of the query."""
    pairs = [part.partition("=") for part in request.query.decode("latin1").split("&") if part]
    return {name: value for name, _, value in pairs}


def _asked(inference: InferenceRequest) -> AskedResponse:
    return asked_of(inference.body)


def _with(inference: InferenceRequest, asked: AskedResponse) -> InferenceRequest:
    return msgspec.structs.replace(inference, body=msgspec.structs.replace(inference.body, response=asked))
