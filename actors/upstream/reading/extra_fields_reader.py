"""Gathers what the events of an upstream's answer say beside the fields that are read. Sans-IO; one per call."""

from collections.abc import Mapping
from typing import Any

from actors.api.extra_fields import ExtraFields, is_label, joined
from actors.upstream.reading.content_parts import parts_without_text

_READ_BODY = frozenset({
    "id", "object", "created", "model", "system_fingerprint", "choices", "usage", "error", "penstock",
    "type", "event", "status", "code", "message", "msg", "detail", "base_resp",
    "obfuscation",
})  # fmt: skip
"""The second line: in forms of errors and keep-alives; the third: padding of the events."""
_READ_CHOICE = frozenset({"index", "delta", "message", "text", "logprobs", "finish_reason", "usage", "error"})
_READ_MESSAGE = frozenset({
    "role", "name", "content", "refusal", "reasoning_content", "reasoning", "thinking", "tool_calls", "function_call",
    "token_id",
})  # fmt: skip
"""The second line: says nothing without the text of its event."""
_READ_USAGE = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
_READ_DETAILS = {
    "prompt_tokens_details": frozenset({"cached_tokens"}),
    "completion_tokens_details": frozenset({"reasoning_tokens"}),
}
_MIN_INTEGER, _MAX_INTEGER = -(1 << 63), (1 << 64) - 1
_MAX_FLOAT = 1 << 1023
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_MAX_CHANGED_BYTES = 1 << 20
"""Of events in which a field has another value than before; beyond, such fields are passed on at the end."""


class ExtraFieldsReader:
    """Give it every event to `take`."""

    def __init__(self) -> None:
        self.bytes = 0
        """Of all events that were kept: those with fragments of the message, or with a field for the first time."""
        self._body: dict[str, Any] = {}
        """What was said so far ..."""
        self._choice: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._new_body: dict[str, Any] = {}
        """... and what is new since the last `take_out`."""
        self._new_choice: dict[str, Any] = {}
        self._new_bytes = 0
        self._changed_bytes = 0
        self._labels: dict[str, Any] = {}
        """Those of the message so far."""
        self._messages: list[ExtraFields] = []
        self.has_content = False
        """There are new fragments of the message, not only what is said about it."""
        self._names: set[str] = set()
        """Fields of which there were fragments."""

    def take(self, event: Mapping[str, Any], size: int) -> bool:
        """Take in one event of `size` bytes. True: it has fragments of the message."""
        before, known = len(self._messages), len(self._body) + len(self._choice)
        has_changed = _note(event, _READ_BODY, self._body, self._new_body)
        self.take_usage(event.get("usage"))
        choices = event.get("choices")
        choices = choices if isinstance(choices, list) else [choices]
        for choice in choices:
            if isinstance(choice, Mapping):
                has_changed = _note(choice, _READ_CHOICE, self._choice, self._new_choice) or has_changed
                self._take_message(choice.get("delta"), is_whole=False)
                self._take_message(choice.get("message"), is_whole=True)
        added = self._messages[before:]
        if has_changed or added:
            self._new_bytes += size
            is_new = len(self._body) + len(self._choice) > known
            if is_new or any(not isinstance(value, int | float) for each in added for value in each.message.values()):
                self.bytes += size
            else:
                self._changed_bytes += size
        return bool(added)

    def take_usage(self, usage: Any) -> None:
        """Of an event of which nothing else is to be taken in."""
        if not isinstance(usage, Mapping) or usage.keys() <= _READ_USAGE:
            return
        for name, given in usage.items():
            read = _READ_DETAILS.get(name)
            value = given
            if read is not None and isinstance(given, Mapping):
                value = {each: number for each, number in given.items() if each not in read}
            if name not in _READ_USAGE and value not in _NOTHING:
                self._usage[name] = _bounded(value)

    def take_out(self, *, at_end: bool) -> ExtraFields | None:
        """What is new; what belongs to the usage comes at the end."""
        usage = self._usage if at_end else {}
        body: dict[str, Any] = {}
        choice: dict[str, Any] = {}
        if at_end or self._changed_bytes <= _MAX_CHANGED_BYTES:
            body, self._new_body = self._new_body, body
            choice, self._new_choice = self._new_choice, choice
        if not (self._messages or body or choice or usage):
            return None
        extras = joined([ExtraFields(body, choice, usage=usage, size=self._new_bytes), *self._messages])
        self._messages, self._new_bytes, self.has_content = [], 0, False
        return extras

    def _take_message(self, message: Any, *, is_whole: bool) -> None:
        if not isinstance(message, Mapping):
            return
        fields = {
            name: _bounded(value)
            for name, value in message.items()
            # Some servers send the whole message at the end of a stream.
            if name not in _READ_MESSAGE
            and value not in _NOTHING
            and not (is_whole and name in self._names)
            and not (is_label(name, value) and self._labels.get(name) == value)
        }
        others = parts_without_text(message.get("content"))
        if others and not (is_whole and "content_parts" in self._names):
            fields["content_parts"] = _bounded(others)
        if fields:
            self._labels.update({name: value for name, value in fields.items() if is_label(name, value)})
            self.has_content = self.has_content or not all(is_label(name, value) for name, value in fields.items())
            self._names.update(fields)
            self._messages.append(ExtraFields(message=fields))


def _note(given: Mapping[str, Any], read: frozenset[str], known: dict[str, Any], new: dict[str, Any]) -> bool:
    """Take in what has changed. True: there is some."""
    if given.keys() <= read:
        return False
    has_changed = False
    for name, value in given.items():
        if name not in read and value not in _NOTHING and known.get(name) != value:
            known[name] = value
            new[name] = _bounded(value)
            has_changed = True
    return has_changed


def _bounded(value: Any) -> Any:
    """With integers beyond 64 bits as floats: files have no others."""
    if isinstance(value, list):
        return [_bounded(entry) for entry in value]
    if isinstance(value, Mapping):
        return {name: _bounded(entry) for name, entry in value.items()}
    if isinstance(value, int) and not _MIN_INTEGER <= value <= _MAX_INTEGER:
        return float(value) if -_MAX_FLOAT < value < _MAX_FLOAT else None
    return value
