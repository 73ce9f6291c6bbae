"""`POST /v1/moderations`: the body, checked."""

from typing import Annotated, Any, Literal

import msgspec

from actors.api.request import ParsedBody
from actors.request.judging import labelling_body
from gateway.errors import BadField
from gateway.openai.requests.fault import fault
from gateway.openai.requests.neutral import field_schema


class ModerationPart(msgspec.Struct):
    """A part of a message. Other fields are not read."""

    type: Literal["text"]
    text: str


class ModerationBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body; `null` counts as absent in every field."""

    input: Annotated[str | list[str | dict[str, Any]], field_schema(minItems=1)]
    """A text, texts, or the parts of one message."""
    model: str | None = None
    """A name in [moderations]; left out: the first one."""
    user: str | None = None


def read_moderation(body: ModerationBody, model: str, max_inputs: int) -> ParsedBody:
    """`model`: the classifier that answers. Raises `BadField`."""
    texts = _texts(body.input)
    if len(texts) > max_inputs:
        raise fault("input", f"holds {len(texts)} texts; at most {max_inputs} are allowed in one request. Split it.")
    return labelling_body(model, tuple(texts), "moderations", user=body.user)


def _texts(given: str | list[str | dict[str, Any]]) -> list[str]:
    """One text for each result: each string is one, and the parts of a message together are one."""
    if isinstance(given, str):
        return [given]
    if not given:
        raise fault("input", "must not be an empty list.")
    strings = [each for each in given if isinstance(each, str)]
    if len(strings) == len(given):
        return strings
    if strings:
        raise fault("input", "must be a text, a list of texts, or a list of parts: not a mixture.", "invalid_type")
    return ["\n".join([_text(index, each) for index, each in enumerate(given) if isinstance(each, dict)])]


def _text(index: int, part: dict[str, Any]) -> str:
    kind, text = part.get("type"), part.get("text")
    if kind != "text":
        raise BadField(
            f"input[{index}].type",
            f"'input[{index}].type': {kind!r} cannot be judged: the classifier reads text only. Send parts of the type "
            '"text".',
            "unsupported_parameter",
        )
    if not isinstance(text, str):
        raise fault(f"input[{index}].text", "must be a string.", "invalid_type")
    return text
