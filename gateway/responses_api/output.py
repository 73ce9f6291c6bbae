"""The output items of one answer: reasoning, messages and calls, in the order in which the model made them."""

from typing import Any, Literal, TypeVar

import msgspec

from actors.api.response import Delta, EndReason, MadeCall
from engine.messages import TokenLogprobs
from gateway.openai.logprobs import chat_logprobs
from gateway.responses_api.items import CUSTOM_INPUT

Status = Literal["in_progress", "completed", "incomplete"]


class TextItem:
    """A message that grows."""

    kind = "message"

    def __init__(self, item_id: str, index: int, *, refuses: bool) -> None:
        self.id = item_id
        self.index = index
        """Among the items of the response."""
        self.refuses = refuses
        """The text is a refusal."""
        self.texts: list[str] = []
        self.logprobs: list[TokenLogprobs] = []
        self.annotations: list[Any] = []

    @property
    def part(self) -> dict[str, Any]:
        text = "".join(self.texts)
        if self.refuses:
            return {"type": "refusal", "refusal": text}
        logprobs = chat_logprobs(self.logprobs)
        return {"type": "output_text", "text": text, "annotations": self.annotations, "logprobs": logprobs}

    def fields(self, status: Status, *, empty: bool = False) -> dict[str, Any]:
        """`empty`: as it begins."""
        content = [] if empty else [self.part]
        return {"id": self.id, "type": self.kind, "status": status, "role": "assistant", "content": content}


class ThoughtItem:
    """Reasoning that grows."""

    kind = "reasoning"

    def __init__(self, item_id: str, index: int) -> None:
        self.id = item_id
        self.index = index
        self.texts: list[str] = []

    @property
    def part(self) -> dict[str, Any]:
        return {"type": "reasoning_text", "text": "".join(self.texts)}

    def fields(self, status: Status, *, empty: bool = False) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": self.kind,
            "status": status,
            "summary": [],
            "content": [] if empty else [self.part],
            "encrypted_content": None,
        }


class CallItem:
    """A call, which is complete when it comes."""

    def __init__(self, item_id: str, index: int, call: MadeCall, *, custom: bool) -> None:
        self.id = item_id
        self.index = index
        self.custom = custom
        self.kind = "custom_tool_call" if custom else "function_call"
        self.argument = "input" if custom else "arguments"
        """The field of what it is called with."""
        self.value = _custom_input(call.arguments) if custom else call.arguments
        self._call = call

    def fields(self, status: Status, *, empty: bool = False) -> dict[str, Any]:
        fields = {
            "id": self.id,
            "type": self.kind,
            "status": status,
            "call_id": self._call.id,
            "name": self._call.name,
            self.argument: "" if empty else self.value,
        }
        return fields if self._call.extra is None else {**fields, "extra_content": self._call.extra}


T = TypeVar("T", TextItem, ThoughtItem, CallItem)
OutputItem = TextItem | ThoughtItem | CallItem


class ResponseOutput:
    """The items so far. A text and reasoning grow while nothing else comes between."""

    def __init__(self, request_id: str, custom: frozenset[str]) -> None:
        """`custom`: names of the tools that are no functions."""
        self._request_id = request_id
        self._custom = custom
        self.items: list[OutputItem] = []
        self.finish_reason: EndReason | None = None
        self.service_tier: str | None = None
        """The one that an upstream has used, if it says so."""

    @property
    def last(self) -> OutputItem | None:
        return self.items[-1] if self.items else None

    def text(self, *, refuses: bool = False) -> TextItem:
        """The message that the next text belongs to."""
        last = self.last
        if isinstance(last, TextItem) and last.refuses == refuses:
            return last
        return self._add(TextItem(self._id("msg"), len(self.items), refuses=refuses))

    def thought(self) -> ThoughtItem:
        """The same for reasoning."""
        last = self.last
        return last if isinstance(last, ThoughtItem) else self._add(ThoughtItem(self._id("rs"), len(self.items)))

    def call(self, made: MadeCall) -> CallItem:
        custom = made.name in self._custom
        item_id = self._id("ctc" if custom else "fc")
        return self._add(CallItem(item_id, len(self.items), made, custom=custom))

    def take(self, delta: Delta) -> None:
        if delta.reasoning:
            self.thought().texts.append(delta.reasoning)
        if shows_text(delta):
            item = self.text(refuses=delta.refuses)
            item.texts.append(delta.text)
            item.logprobs += delta.logprobs
        if annotations := annotations_of(delta):
            self.text(refuses=delta.refuses).annotations += annotations
        for made in delta.calls:
            self.call(made)
        self.end(delta)

    def end(self, delta: Delta) -> None:
        """Note why the answer ended, if it did, and in which tier."""
        tier = None if delta.extras is None else delta.extras.body.get("service_tier")
        if isinstance(tier, str):
            self.service_tier = tier
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason

    @property
    def is_cut(self) -> bool:
        """The model did not end the answer itself."""
        return self.finish_reason in {"length", "content_filter"}

    def fields(self, last: Status) -> list[dict[str, Any]]:
        """All items; `last`: the state of the last one, if it is one that grows."""
        return [
            item.fields(last if item is self.items[-1] and not isinstance(item, CallItem) else "completed")
            for item in self.items
        ]

    def _id(self, prefix: str) -> str:
        """The same each time that this answer is read."""
        return f"{prefix}_{self._request_id}{len(self.items):02x}"

    def _add(self, item: T) -> T:
        self.items.append(item)
        return item


def shows_text(delta: Delta) -> bool:
    """Whether a message shows something of it."""
    return bool(delta.text) or (bool(delta.logprobs) and any(not each.special for each in delta.logprobs))


def annotations_of(delta: Delta) -> list[dict[str, Any]]:
    """Citations, as this API writes them: without an object of their own within each."""
    given = None if delta.extras is None else delta.extras.message.get("annotations")
    return [_annotation(each) for each in given if isinstance(each, dict)] if isinstance(given, list) else []


def _annotation(given: dict[str, Any]) -> dict[str, Any]:
    kind = given.get("type")
    inner = given.get(kind) if isinstance(kind, str) else None
    return {"type": kind, **inner} if isinstance(inner, dict) else given


def _custom_input(arguments: str) -> str:
    """What a custom tool is called with; a model that is not bound to its form may write something else."""
    try:
        value = msgspec.json.decode(arguments, type=dict[str, Any]).get(CUSTOM_INPUT)
    except msgspec.MsgspecError:
        return arguments
    return value if isinstance(value, str) else arguments
