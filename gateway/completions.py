"""`POST /v1/chat/completions` and `POST /v1/completions`, whole and streamed."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog
import trio

from actors.errors import Refusal
from actors.messages import (
    Decided,
    Delta,
    Done,
    EmbeddingParams,
    ErrorBody,
    Event,
    InferenceRequest,
    Prompt,
    Served,
    Start,
    Usage,
)
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from gateway.bodies import reading
from gateway.errors import BadField, ClientGone
from gateway.front import Asker, Front, new_request_id
from gateway.server.connection import INTERNAL_ERROR, Connection
from gateway.server.event_stream import EventStream
from gateway.server.head import JSON_TYPE
from gateway.server.request import Request
from gateway.told import Told, degraded_lines, place_lines, served_headers
from gateway.whole import whole_answer
from gateway.wire.answer import ChatChunks, Choice, Chunks, CompletionChunks, Identity, chat_body, completion_body
from gateway.wire.chat_request import ChatBody, chat_params, chat_prompt
from gateway.wire.completion_request import CompletionBody, completion_params
from gateway.wire.grammar_request import answer_grammar
from gateway.wire.json_body import BodyDecoder, check_content_type
from gateway.wire.named import conversation_of, user_of
from gateway.wire.prompts import prompts_of
from gateway.wire.sampling import check_truncation
from gateway.wire.sse import SseRenderer, error_event
from gateway.wire.view import View

log = structlog.get_logger()


class Asked(msgspec.Struct, frozen=True):
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


class Endpoint(msgspec.Struct, frozen=True):
    """Where the two endpoints differ."""

    decoder: BodyDecoder
    read: Callable[[Any, int], Asked]
    chunks: Callable[..., Chunks]
    whole: Callable[[Identity, Sequence[Choice], Usage, Served, View], bytes]


def read_chat(body: ChatBody, max_choices: int) -> Asked:
    """Raises `BadField`."""
    params, n, view = chat_params(body, max_choices)
    prompt, grammar = chat_prompt(body), answer_grammar(body)
    if grammar is not None and grammar.kind != "json_schema" and prompt.tools is not None:
        raise BadField(grammar.param, f"'{grammar.param}' and 'tools' cannot be combined: give one of them.")
    return Asked(
        (prompt,),
        params,
        n,
        grammar,
        view=view,
        truncate_prompt_tokens=check_truncation(body),
        conversation=conversation_of(body),
        cache_key=body.prompt_cache_key or "",
    )


def read_completion(body: CompletionBody, max_choices: int) -> Asked:
    """Raises `BadField`."""
    prompts = prompts_of("prompt", body.prompt)
    params, n, view = completion_params(body, len(prompts), max_choices)
    return Asked(
        prompts,
        params,
        n,
        answer_grammar(body),
        view=view,
        truncate_prompt_tokens=check_truncation(body),
        conversation=conversation_of(body),
        cache_key=body.prompt_cache_key or "",
    )


CHAT = Endpoint(BodyDecoder(ChatBody), read_chat, ChatChunks, chat_body)
COMPLETION = Endpoint(BodyDecoder(CompletionBody), read_completion, CompletionChunks, completion_body)


class CompletionHandler:
    """Answers the requests of one endpoint."""

    def __init__(self, front: Front, endpoint: Endpoint) -> None:
        self._front = front
        self._endpoint = endpoint

    async def __call__(self, connection: Connection, request: Request) -> None:
        """Answer one request; the connection's scope ends it when the client hangs up."""
        request_id = new_request_id()
        told = Told(request_id, Decided(self._front.house.policy))
        try:
            check_content_type(request.header(b"content-type"))
            body, asked = await reading(len(request.body), partial(self._read, request.body))
            inference = Asker.of(request).asks(
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
                streamed=bool(body.stream),
                body_bytes=len(request.body),
                arrived_at=request.arrived_at,
            )
            # A long prompt need not be held as bytes, too, while it is answered.
            request.body = b""
            connection.watch()
            if body.stream:
                include_usage = bool(body.stream_options and body.stream_options.include_usage)
                stream = connection.event_stream(request, told.request_line)
                await self._stream(connection, stream, inference, asked.view, told, include_usage=include_usage)
            else:
                await self._whole(connection, inference, asked.view, told)
        except Refusal as refusal:
            log.debug("request_refused", request_id=request_id, code=refusal.body.code, status=refusal.body.status)
            await connection.respond_error(refusal.body, told.headers())

    def _read(self, raw: bytes) -> tuple[Any, Asked]:
        body = self._endpoint.decoder.decode(raw)
        return body, self._endpoint.read(body, self._front.max_choices)

    async def _whole(self, connection: Connection, inference: InferenceRequest, view: View, told: Told) -> None:
        choices = [Choice() for _ in range(len(inference.prompts) * inference.n)]
        exchange = await self._front.house.open(inference)
        told.decided = exchange.decided
        identity = self._front.identity(inference.request_id, inference.model, told.decided.policy)
        try:
            done = await whole_answer(exchange, partial(_gather, choices))
            body = self._endpoint.whole(identity, choices, done.usage, done.served, view)
            await connection.respond(200, told.headers() + JSON_TYPE + served_headers(done.served), body)
        finally:
            exchange.close()

    async def _stream(
        self,
        connection: Connection,
        stream: EventStream,
        inference: InferenceRequest,
        view: View,
        told: Told,
        *,
        include_usage: bool,
    ) -> None:
        failed = False
        try:
            exchange = await self._front.house.open(inference)
            told.decided = exchange.decided
            stream.add_headers(told.decision_lines())
            identity = self._front.identity(inference.request_id, inference.model, told.decided.policy)
            chunks = self._endpoint.chunks(identity, view, include_usage=include_usage)
            renderer = SseRenderer(chunks, include_usage=include_usage)
            try:
                while not renderer.ended:
                    events = await exchange.__anext__()
                    if not stream.started:
                        stream.add_headers(_first_headers(events))
                    if data := renderer.render(events):
                        await stream.send(data, trio.current_time(), last=renderer.ended)
                failed = renderer.failed
            finally:
                exchange.close()
        except Refusal as refusal:
            await _break_off(connection, stream, refusal.body)
        except StopAsyncIteration:
            await _break_off(connection, stream, INTERNAL_ERROR)
        except ClientGone:
            raise
        except Exception:
            log.exception("stream_failed", request_id=inference.request_id)
            await _break_off(connection, stream, INTERNAL_ERROR)
        if failed:
            connection.close_after()


def _gather(choices: Sequence[Choice], event: Start | Delta) -> None:
    match event:
        case Start(echo=echo):
            for choice, text in zip(choices, echo, strict=False):
                choice.echo = text
        case Delta():
            choices[event.index].take(event)


async def _break_off(connection: Connection, stream: EventStream, error: ErrorBody) -> None:
    """A true status if the head is still ours, else the terminal error event."""
    if not stream.started:
        raise Refusal(error)
    connection.close_after()
    await stream.send(error_event(error), trio.current_time(), last=True)


def _first_headers(events: Sequence[Event]) -> bytes:
    """What is known when the head goes out. A short answer may already be whole."""
    for event in reversed(events):
        match event:
            case Done():
                return served_headers(event.served)
            case Start():
                return place_lines(event.route, event.rung, event.adapter) + degraded_lines(event)
    return b""
