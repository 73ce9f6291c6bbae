"""`POST /v1/chat/completions` and `POST /v1/completions`, whole and streamed."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog
import trio

from actors.api.errors import ErrorBody, Refusal
from actors.api.request import EmbeddingParams, InferenceRequest, Prompt
from actors.api.response import Delta, Done, ResponseEvent, Served, Start, Usage
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from gateway.endpoints.api_context import ApiContext, Credentials, new_request_id
from gateway.endpoints.collect import whole_answer
from gateway.endpoints.offload import reading
from gateway.errors import BadField, ClientGone
from gateway.http.connection import INTERNAL_ERROR, Connection
from gateway.http.event_stream import EventStream
from gateway.http.request import Body, Request
from gateway.http.response_head import JSON_TYPE
from gateway.openai.requests.chat_request import ChatBody, chat_params, chat_prompt
from gateway.openai.requests.completion_request import CompletionBody, completion_params
from gateway.openai.requests.forwarded_fields import written
from gateway.openai.requests.grammar_request import answer_grammar
from gateway.openai.requests.json_body import BodyDecoder, GivenFields
from gateway.openai.requests.prompts import prompts_of
from gateway.openai.requests.sampling import StreamOptions, check_truncation
from gateway.openai.requests.unused_fields import CHAT as CHAT_FIELDS
from gateway.openai.requests.unused_fields import COMPLETION as COMPLETION_FIELDS
from gateway.openai.requests.unused_fields import needs_upstream
from gateway.openai.requests.user_and_conversation import conversation_of, user_of
from gateway.openai.responses.completion import (
    ChatChunks,
    Choice,
    Chunks,
    CompletionChunks,
    Identity,
    chat_body,
    completion_body,
)
from gateway.openai.responses.decision_headers import DecisionHeaders, served_headers, start_headers
from gateway.openai.responses.sse import SseRenderer, error_event
from gateway.openai.view import View

log = structlog.get_logger()


class ParsedBody(msgspec.Struct, frozen=True):
    """What a checked body asks for."""

    prompts: tuple[Prompt, ...]
    params: SamplingParams
    n: int
    grammar: Grammar | None
    embedding: EmbeddingParams | None = None
    view: View = View()
    truncate_prompt_tokens: int | None = None
    conversation: str = ""
    cache_key: str = ""
    written: Mapping[str, Any] = {}
    needs_upstream: tuple[str, ...] = ()


class Endpoint(msgspec.Struct, frozen=True):
    """Where the two endpoints differ."""

    decoder: BodyDecoder
    read: Callable[[Any, GivenFields, int], ParsedBody]
    chunks: Callable[..., Chunks]
    whole: Callable[[Identity, Sequence[Choice], Usage, Served, View], bytes]


def read_chat(body: ChatBody, given: GivenFields, max_choices: int) -> ParsedBody:
    """Raises `BadField`."""
    needs = needs_upstream(given, CHAT_FIELDS)
    params, n, view = chat_params(body, max_choices)
    prompt, grammar = chat_prompt(body), answer_grammar(body)
    if grammar is not None and grammar.kind != "json_schema" and prompt.tools is not None:
        raise BadField(grammar.param, f"'{grammar.param}' and 'tools' cannot be combined: give one of them.")
    return ParsedBody(
        (prompt,),
        params,
        n,
        grammar,
        view=view,
        truncate_prompt_tokens=check_truncation(body),
        conversation=conversation_of(body),
        cache_key=body.prompt_cache_key or "",
        written=written(given),
        needs_upstream=needs,
    )


def read_completion(body: CompletionBody, given: GivenFields, max_choices: int) -> ParsedBody:
    """Raises `BadField`."""
    needs = needs_upstream(given, COMPLETION_FIELDS)
    prompts = prompts_of("prompt", body.prompt)
    params, n, view = completion_params(body, len(prompts), max_choices)
    return ParsedBody(
        prompts,
        params,
        n,
        answer_grammar(body),
        view=view,
        truncate_prompt_tokens=check_truncation(body),
        conversation=conversation_of(body),
        cache_key=body.prompt_cache_key or "",
        written=written(given),
        needs_upstream=needs,
    )


CHAT = Endpoint(BodyDecoder(ChatBody), read_chat, ChatChunks, chat_body)
COMPLETION = Endpoint(BodyDecoder(CompletionBody), read_completion, CompletionChunks, completion_body)


class CompletionHandler:
    """Answers the requests of one endpoint."""

    def __init__(self, api: ApiContext, endpoint: Endpoint) -> None:
        self._api = api
        self._endpoint = endpoint

    async def __call__(self, connection: Connection, request: Request) -> None:
        """Answer one request; the connection's scope ends it when the client hangs up."""
        request_id = new_request_id()
        key = request.key
        told = self._api.told(request_id, key)
        try:
            with self._api.edge_line(request_id, request.path.decode("latin1"), request.arrived_at, key):
                body, asked = await reading(len(request.body), partial(self._read, request.body))
                inference = Credentials.of(request).asks(
                    request_id=request_id,
                    model=body.model,
                    prompts=asked.prompts,
                    params=asked.params,
                    echo=asked.view.echo,
                    truncate_prompt_tokens=asked.truncate_prompt_tokens,
                    n=asked.n,
                    grammar=asked.grammar,
                    user=user_of(body),
                    conversation=asked.conversation,
                    cache_key=asked.cache_key,
                    written=asked.written,
                    needs_upstream=asked.needs_upstream,
                    streamed=bool(body.stream),
                    body_bytes=len(request.body),
                    arrived_at=request.arrived_at,
                )
                connection.drop_body(request)
                connection.watch()
            if body.stream:
                stream = connection.event_stream(request, told.request_line)
                await self._stream(stream, inference, asked.view, told, options=body.stream_options)
            else:
                await self._whole(connection, inference, asked.view, told)
        except Refusal as refusal:
            log.debug("request_refused", request_id=request_id, code=refusal.body.code, status=refusal.body.status)
            await connection.respond_error(refusal.body, told.headers())

    def _read(self, raw: Body) -> tuple[Any, ParsedBody]:
        body, given = self._endpoint.decoder.decode(raw)
        return body, self._endpoint.read(body, given, self._api.max_choices)

    async def _whole(
        self, connection: Connection, inference: InferenceRequest, view: View, told: DecisionHeaders
    ) -> None:
        choices = [Choice() for _ in range(len(inference.prompts) * inference.n)]
        response = await self._api.service.open(inference)
        told.decided = response.decided
        try:
            done = await whole_answer(response, partial(_gather, choices))
            identity = self._identity(inference, done.served.model_served, told)
            body = self._endpoint.whole(identity, choices, done.usage, done.served, view)
            await connection.respond(200, told.headers() + JSON_TYPE + served_headers(done.served), body)
        finally:
            response.close()

    async def _stream(
        self,
        stream: EventStream,
        inference: InferenceRequest,
        view: View,
        told: DecisionHeaders,
        *,
        options: StreamOptions | None,
    ) -> None:
        options = options or StreamOptions()
        include_usage = bool(options.include_usage)
        try:
            response = await self._api.service.open(inference)
            told.decided = response.decided
            stream.add_headers(told.decision_lines())
            try:
                events = await response.__anext__()
                stream.add_headers(_first_headers(events))
                identity = self._identity(inference, _model_of(events), told)
                chunks = self._endpoint.chunks(identity, view, include_usage=include_usage)
                continuous = bool(options.continuous_usage_stats)
                renderer = SseRenderer(chunks, include_usage=include_usage, continuous=continuous)
                while True:
                    if data := renderer.render(events):
                        await stream.send(data, trio.current_time(), last=renderer.ended)
                    if renderer.ended:
                        break
                    events = await response.__anext__()
            finally:
                response.close()
        except Refusal as refusal:
            await _break_off(stream, refusal.body)
        except StopAsyncIteration:
            await _break_off(stream, INTERNAL_ERROR)
        except ClientGone:
            raise
        except Exception:
            log.exception("stream_failed", request_id=inference.request_id)
            await _break_off(stream, INTERNAL_ERROR)

    def _identity(self, inference: InferenceRequest, served: str, told: DecisionHeaders) -> Identity:
        return self._api.identity(inference.request_id, inference.model, served, told.decided.policy)


def _gather(choices: Sequence[Choice], event: Start | Delta) -> None:
    match event:
        case Start(echo=echo):
            for choice, text in zip(choices, echo, strict=False):
                choice.echo = text
        case Delta():
            choices[event.index].take(event)


async def _break_off(stream: EventStream, error: ErrorBody) -> None:
    """A true status if the head is still ours, else the terminal error event."""
    if not stream.started:
        raise Refusal(error)
    await stream.send(error_event(error), trio.current_time(), last=True)


def _first_headers(events: Sequence[ResponseEvent]) -> bytes:
    """What is known when the head goes out. A short answer may already be whole."""
    for event in reversed(events):
        match event:
            case Done():
                return served_headers(event.served)
            case Start():
                return start_headers(event)
    return b""


def _model_of(events: Sequence[ResponseEvent]) -> str:
    """Who answers, as far as it is known with the first events."""
    return next((event.model_served for event in events if isinstance(event, Start)), "")
