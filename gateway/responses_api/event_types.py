"""The events of a streamed response as types, for the API's description; `event_renderer.py` writes them."""

from msgspec import UNSET, Struct, UnsetType

from gateway.openai.responses.answer_types import ChosenToken
from gateway.responses_api.answer_types import AnsweredItem, OutputRefusal, OutputText, ReasoningText, ResponseAnswer


class _Numbered(Struct, kw_only=True):
    sequence_number: int


class _OfResponse(_Numbered, kw_only=True):
    response: ResponseAnswer


class _OfItem(_Numbered, kw_only=True):
    output_index: int
    item: AnsweredItem


class _Within(_Numbered, kw_only=True):
    item_id: str
    output_index: int


class _OfPart(_Within, kw_only=True):
    content_index: int


class ResponseCreated(_OfResponse, tag_field="type", tag="response.created"):
    """The first event."""


class ResponseInProgress(_OfResponse, tag_field="type", tag="response.in_progress"):
    """The second event."""


class ResponseCompleted(_OfResponse, tag_field="type", tag="response.completed"):
    """The last event: the model has ended its answer."""


class ResponseIncomplete(_OfResponse, tag_field="type", tag="response.incomplete"):
    """The last event: the answer was cut."""


class ResponseFailed(_OfResponse, tag_field="type", tag="response.failed"):
    """The last event of a response that has failed."""


class ItemAdded(_OfItem, tag_field="type", tag="response.output_item.added"):
    """An item begins."""


class ItemDone(_OfItem, tag_field="type", tag="response.output_item.done"):
    """An item ends."""


class PartAdded(_OfPart, tag_field="type", tag="response.content_part.added", kw_only=True):
    """A part of an item begins."""

    part: OutputText | OutputRefusal | ReasoningText


class PartDone(_OfPart, tag_field="type", tag="response.content_part.done", kw_only=True):
    """A part of an item ends."""

    part: OutputText | OutputRefusal | ReasoningText


class TextAdded(_OfPart, tag_field="type", tag="response.output_text.delta", kw_only=True):
    """New text."""

    delta: str
    logprobs: list[ChosenToken]


class TextDone(_OfPart, tag_field="type", tag="response.output_text.done", kw_only=True):
    """The whole text."""

    text: str
    logprobs: list[ChosenToken]


class RefusalAdded(_OfPart, tag_field="type", tag="response.refusal.delta", kw_only=True):
    """More of a refusal."""

    delta: str


class RefusalDone(_OfPart, tag_field="type", tag="response.refusal.done", kw_only=True):
    """The whole refusal."""

    refusal: str


class ReasoningAdded(_OfPart, tag_field="type", tag="response.reasoning_text.delta", kw_only=True):
    """New reasoning."""

    delta: str


class ReasoningDone(_OfPart, tag_field="type", tag="response.reasoning_text.done", kw_only=True):
    """The whole reasoning."""

    text: str


class ArgumentsAdded(_Within, tag_field="type", tag="response.function_call_arguments.delta", kw_only=True):
    """A call's arguments, at once."""

    delta: str


class ArgumentsDone(_Within, tag_field="type", tag="response.function_call_arguments.done", kw_only=True):
    """The same again."""

    arguments: str


class CustomInputAdded(_Within, tag_field="type", tag="response.custom_tool_call_input.delta", kw_only=True):
    """The input of a custom tool's call, at once."""

    delta: str


class CustomInputDone(_Within, tag_field="type", tag="response.custom_tool_call_input.done", kw_only=True):
    """The same again."""

    input: str


class ResponseStreamError(_Numbered, tag_field="type", tag="error", kw_only=True):
    """The only event of a stream that has failed before its response began."""

    message: str
    param: str | None
    code: str
    upstream_code: str | UnsetType = UNSET
    stream: str | UnsetType = UNSET
    delivered_tokens: int | UnsetType = UNSET


ResponseStreamEvent = (
    ResponseCreated
    | ResponseInProgress
    | ResponseCompleted
    | ResponseIncomplete
    | ResponseFailed
    | ItemAdded
    | ItemDone
    | PartAdded
    | PartDone
    | TextAdded
    | TextDone
    | RefusalAdded
    | RefusalDone
    | ReasoningAdded
    | ReasoningDone
    | ArgumentsAdded
    | ArgumentsDone
    | CustomInputAdded
    | CustomInputDone
    | ResponseStreamError
)
