"""Judges the user's text before a request is planned, and a model's before it is sent."""

from collections.abc import Mapping, Sequence
from typing import Literal

import structlog

from actors.api.errors import InvalidRequest, Refusal
from actors.api.request import ChatPrompt, InferenceRequest, ParsedBody, Prompt, TextPrompt
from actors.request.text_judge import TextJudge
from config.model.judging import GuardrailSettings
from config.model.wildcard import fits

_LATER = frozenset({429, 503})
"""Statuses with which the client should come back."""
log = structlog.get_logger()


class Guardrails:
    """Asks for one judgement after the other."""

    def __init__(self, judge: TextJudge) -> None:
        self._judge = judge

    async def check_request(self, name: str, guardrail: GuardrailSettings, request: InferenceRequest) -> None:
        """Raises Refusal: the guardrail refuses the request, or cannot judge it."""
        await self._check(name, guardrail, request, _text(request.body))

    async def check_answer(
        self, guardrails: Sequence[tuple[str, GuardrailSettings]], request: InferenceRequest, answer: str
    ) -> None:
        """Raises Refusal: a guardrail refuses the answer, or cannot judge it."""
        for name, guardrail in guardrails:
            await self._check(name, guardrail, request, answer)

    async def _check(self, name: str, guardrail: GuardrailSettings, request: InferenceRequest, about: str) -> None:
        if not about.strip():
            return
        answered = guardrail.reads == "answer"
        param = None if answered else request.body.param
        try:
            found = await self._judge.holds(guardrail, about, name=name, request=request, answered=answered)
        except Refusal as refusal:
            if guardrail.action == "log":
                message = refusal.body.message
                log.warning("guardrail_failed", guardrail=name, request_id=request.request_id, error=message)
                return
            if refusal.body.status in _LATER:
                raise
            raise InvalidRequest(
                f"The guardrail '{name}' cannot judge the {guardrail.reads}: {refusal.body.message}",
                param=param,
                code="guardrail_failed",
            ) from None
        if found < guardrail.threshold:
            return
        log.info("guardrail_held", guardrail=name, request_id=request.request_id, score=found, action=guardrail.action)
        if guardrail.action == "refuse":
            message = guardrail.message or f"The guardrail '{name}' has refused this {guardrail.reads}."
            raise InvalidRequest(message, param=param, code="guardrail_refused")


def applying(
    guardrails: Mapping[str, GuardrailSettings], request: InferenceRequest, reads: Literal["request", "answer"]
) -> list[tuple[str, GuardrailSettings]]:
    """Those that judge this request, or its answer: text is wanted, of a model that they guard."""
    body, begun = request.body, request.begun
    if not guardrails or request.of_service or body.embedding is not None or body.tokenize is not None:
        return []
    if begun is not None and reads == "request":
        # The process that has begun it has judged it.
        return []
    return [(name, each) for name, each in guardrails.items() if each.reads == reads and _guards(each, body.model)]


def _guards(guardrail: GuardrailSettings, model: str) -> bool:
    return not guardrail.guards or any(fits(model, pattern) for pattern in guardrail.guards)


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
