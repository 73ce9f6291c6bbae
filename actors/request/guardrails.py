"""Judges the user's text before a request is planned, by requests of the service's own."""

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

    async def check(self, name: str, guardrail: GuardrailSettings, request: InferenceRequest) -> None:
        """Raises Refusal: the guardrail refuses the request, or cannot judge it."""
        about = _text(request.body)
        if not about.strip():
            return
        try:
            found = await self._judge.holds(guardrail, about, name=name, request=request)
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
