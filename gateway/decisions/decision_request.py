"""`POST /v1/decisions`: the body, checked."""

from typing import Annotated

import msgspec

from actors.api.request import ChatPrompt, ParsedBody
from actors.request.judging import judging_body
from gateway.openai.requests.chat_request import MAX_MESSAGES, ChatBody, MessageBody, read_chat
from gateway.openai.requests.fault import fault
from gateway.openai.requests.neutral import field_schema
from policies.judging.question import Question, choice, predicate, score

_MOST_OUTCOMES = 64
_KINDS = ("predicate", "choice", "score")


class WantedDecision(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be decided; `null` counts as absent in every field."""

    type: Annotated[str, field_schema(enum=list(_KINDS))]
    question: Annotated[str, field_schema(pattern=r"\S")]
    options: Annotated[
        list[Annotated[str, field_schema(pattern=r"\S")]] | None,
        field_schema(minItems=2, maxItems=_MOST_OUTCOMES, uniqueItems=True),
    ] = None
    """Of a choice."""
    min: Annotated[int | None, field_schema(minimum=0)] = None
    max: Annotated[int | None, field_schema(minimum=1)] = None
    """Of a score: the ends of its scale; 1 and 5 if left out."""


class DecisionBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body; `null` counts as absent in every field."""

    model: str
    decision: WantedDecision
    input: Annotated[str | None, field_schema(minLength=1)] = None
    messages: Annotated[list[MessageBody] | None, field_schema(minItems=1, maxItems=MAX_MESSAGES)] = None
    """A conversation in place of `input`."""
    user: str | None = None
    cache_salt: str | None = None


class AskedDecision(msgspec.Struct, frozen=True):
    """A request for a decision."""

    body: ParsedBody
    question: Question


def read_decision(body: DecisionBody) -> AskedDecision:
    """Raises `BadField`."""
    if (body.input is None) == (body.messages is None):
        raise fault("input", "or 'messages' must be given: one of them.")
    question = _question(body.decision)
    about = body.input if body.messages is None else _transcript(body.model, body.messages)
    if not about:
        raise fault("input", "must not be an empty string.")
    made = judging_body(body.model, question, about, user=body.user, cache_salt=body.cache_salt)
    return AskedDecision(made, question)


def _question(wanted: WantedDecision) -> Question:
    if wanted.type not in _KINDS:
        raise fault("decision.type", f"must be one of {', '.join(_KINDS)}, not {wanted.type!r}.")
    if not wanted.question.strip():
        raise fault("decision.question", "must not be empty.")
    for name, value, kind in (
        ("options", wanted.options, "choice"),
        ("min", wanted.min, "score"),
        ("max", wanted.max, "score"),
    ):
        if value is not None and wanted.type != kind:
            raise fault(f"decision.{name}", f'belongs to the type "{kind}", not to "{wanted.type}": leave it out.')
    match wanted.type:
        case "choice":
            return choice(wanted.question, _options(wanted.options))
        case "score":
            return _score(wanted.question, 1 if wanted.min is None else wanted.min, wanted.max)
        case _:
            return predicate(wanted.question)


def _options(options: list[str] | None) -> tuple[str, ...]:
    named = tuple(map(str.strip, options or ()))
    if not 1 < len(named) <= _MOST_OUTCOMES or len(set(named)) < len(named) or not all(named):
        raise fault("decision.options", f"must be 2 to {_MOST_OUTCOMES} different texts that are not empty.")
    return named


def _score(question: str, lowest: int, highest: int | None) -> Question:
    highest = max(5, lowest + 1) if highest is None else highest
    if not 0 <= lowest < highest < lowest + _MOST_OUTCOMES:
        raise fault(
            "decision.max",
            f"and 'decision.min' must be the ends of a scale from 0 on, of 2 to {_MOST_OUTCOMES} numbers.",
        )
    return score(question, lowest, highest)


def _transcript(model: str, messages: list[MessageBody]) -> str:
    """The conversation as one text. Raises `BadField`."""
    prompt = read_chat(ChatBody(model=model, messages=messages), {}, 1).prompts[0]
    assert isinstance(prompt, ChatPrompt)
    if prompt.media:
        medium = prompt.media[0].medium
        raise fault(prompt.media[0].where, f"({medium}) cannot be judged: send text.", "unsupported_parameter")
    return "\n".join([f"{message.role}: {message.content}" for message in prompt.messages])
