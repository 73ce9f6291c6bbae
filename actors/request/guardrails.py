"""Judges the user's text before a request is planned, by requests of the service's own."""

from collections.abc import Awaitable, Callable

import msgspec
import numpy as np
import structlog
import trio

from actors.api.errors import InvalidRequest, Refusal, Unavailable
from actors.api.request import ChatPrompt, InferenceRequest, ParsedBody, Prompt, TextPrompt
from actors.api.response import Delta, Done, Failed
from actors.request.judging import judging_body, labelling_body
from actors.request.response_stream import ResponseStream
from config.model.judging import GuardrailSettings
from config.model.wildcard import fits
from policies.judging.judgement import judged
from policies.judging.question import predicate

_LATER = frozenset({429, 503})
"""Statuses with which the client should come back."""
_PATH = "/v1/decisions"
log = structlog.get_logger()


class Guardrails:
    """Asks for one judgement after the other; the tenant pays for them, as for any request."""

    def __init__(
        self,
        open_own: Callable[[InferenceRequest], Awaitable[ResponseStream]],
        labels: Callable[[str], tuple[str, ...]],
        temperature: Callable[[str], float | None],
    ) -> None:
        """`open_own`: opens a request that no key has to permit. `labels`, `temperature`: of a rung."""
        self._open_own = open_own
        self._labels = labels
        self._temperature = temperature

    async def check(self, name: str, guardrail: GuardrailSettings, request: InferenceRequest) -> None:
        """Raises Refusal: the guardrail refuses the request, or cannot judge it."""
        about = _text(request.body)
        if not about.strip():
            return
        body = (
            judging_body(guardrail.model, predicate(guardrail.predicate), about)
            if guardrail.predicate
            else labelling_body(guardrail.model, (about,), "scores")
        )
        own = InferenceRequest(
            request_id=f"{request.request_id}-{name}",
            credentials=msgspec.structs.replace(request.credentials, path=_PATH),
            body=body,
            body_bytes=request.body_bytes,
            arrived_at=trio.current_time(),
            of_service=True,
        )
        try:
            found = await self._judged(own, guardrail)
        except Refusal as refusal:
            if refusal.body.status in _LATER:
                raise
            raise InvalidRequest(
                f"The guardrail '{name}' cannot judge the request: {refusal.body.message}",
                param=request.body.param,
                code="guardrail_failed",
            ) from None
        if found < guardrail.threshold:
            return
        log.info("guardrail_held", guardrail=name, request_id=request.request_id, score=found, action=guardrail.action)
        if guardrail.action == "refuse":
            message = guardrail.message or f"The guardrail '{name}' has refused this request."
            raise InvalidRequest(message, param=request.body.param, code="guardrail_refused")

    async def _judged(self, own: InferenceRequest, guardrail: GuardrailSettings) -> float:
        """How much the guardrail's predicate or labels hold, 0 to 1. Raises Refusal."""
        vector, rung = await self._vector(own)
        if guardrail.predicate:
            return judged(vector, self._temperature(rung) or 1.0).probabilities[0]
        labels = self._labels(rung)
        missing = [label for label in guardrail.labels if label not in labels]
        if missing:
            raise InvalidRequest(f"the classifier has no label '{missing[0]}'; it has: {', '.join(labels)}.")
        return max(vector[labels.index(label)] for label in guardrail.labels)

    async def _vector(self, own: InferenceRequest) -> tuple[list[float], str]:
        """What was computed, and the rung that did it."""
        response = await self._open_own(own)
        vector: list[float] = []
        try:
            while events := await response.next_events():
                for event in events:
                    match event:
                        case Delta(embedding=bytes() as found):
                            vector = np.frombuffer(found, "<f4").tolist()
                        case Done(served=served):
                            return vector, served.rung
                        case Failed(error=error):
                            raise Refusal(error)
        finally:
            response.close()
        raise Unavailable("guardrail_failed", "The judgement has ended without a result.")


def applies(guardrail: GuardrailSettings, request: InferenceRequest) -> bool:
    """Whether the guardrail judges this request: text is wanted, of a model that it guards."""
    body = request.body
    if request.of_service or body.embedding is not None or body.tokenize is not None or request.begun is not None:
        return False
    return not guardrail.guards or any(fits(body.model, pattern) for pattern in guardrail.guards)


def _text(body: ParsedBody) -> str:
    """What the user and the tools say. Raises InvalidRequest."""
    return "\n\n".join([part for prompt in body.prompts for part in _parts(prompt, body.param)])


def _parts(prompt: Prompt, param: str) -> list[str]:
    match prompt:
        case ChatPrompt(messages):
            if prompt.media:
                part = prompt.media[0]
                raise _not_text(part.where, f"'{part.where}' ({part.medium}) cannot be judged")
            return [message.content for message in messages if message.role in {"user", "tool"}]
        case TextPrompt(text):
            return [text]
        case _:
            raise _not_text(param, "token ids cannot be judged")


def _not_text(param: str, what: str) -> InvalidRequest:
    message = f"This server judges texts before it answers them, and {what}. Send text."
    return InvalidRequest(message, param=param, code="guardrail_needs_text")
