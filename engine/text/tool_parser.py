"""Incremental parser of tool calls in an answer's text.

A call is held back until it is complete, and emitted if it names a tool of the request; otherwise its text is emitted
as text. White space next to a call is dropped, and so is an incomplete call at the end of an answer that was cut off
(by `max_tokens`, by a stop string).
"""

import re
from collections.abc import Collection
from typing import Literal

import msgspec

from engine.text.tool_calls import CLOSE, OPEN, ToolCall, ToolStyle


class ParsedText(msgspec.Struct, frozen=True):
    """Text and calls that are certain now."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()


class _WrittenCall(msgspec.Struct):
    """A call as a model writes it; some models confuse the two names for the arguments."""

    name: str
    arguments: msgspec.Raw = msgspec.Raw()
    parameters: msgspec.Raw = msgspec.Raw()


_call_decoder = msgspec.json.Decoder(_WrittenCall)
_FIRST_KEYS = ("name", "type", "parameters", "arguments")
"""Keys that a bare call can begin with."""
_BARE_BEGINNING = re.compile(r'\s*\{\s*(?:"(?P<key>[^"]*)(?P<key_ends>")?(?:\s*:\s*(?P<value>[^\s,]*))?)?')


class ToolCallParser:
    """Parser of one answer. Pass all text to `push`, in order, then call `end`."""

    def __init__(self, style: ToolStyle, names: Collection[str]) -> None:
        """`names`: the tools of the request."""
        self._tags = style == "tags"
        self._names = names
        self._state: Literal["text", "start", "object", "after", "plain"] = "text" if self._tags else "start"
        self._held = ""
        self._from = 0
        """In state "object": where the object begins in the held text, after the tag."""
        self._scanner = _ObjectScanner()
        self.opened = False
        """A call, or what looks like one, has begun."""
        self.called = False
        """A call was emitted."""

    @property
    def holding(self) -> bool:
        return bool(self._held)

    def push(self, text: str) -> ParsedText:
        """Add text; return what it makes certain."""
        self._held += text
        shown: list[str] = []
        calls: list[ToolCall] = []
        while self._held and self._step(shown, calls):
            pass
        return ParsedText("".join(shown), tuple(calls))

    def end(self, *, cut: bool = False, stop: str = "") -> ParsedText:
        """End the answer: held text is emitted as text, unless it belongs to the tags of an emitted call.

        `cut`: the answer was cut off, so what may be the beginning of a call is dropped. `stop`: the stop string at
        which it was cut, if known.
        """
        held, self._held = self._held, ""
        if self.called and not held.strip():
            return ParsedText()
        match self._state:
            case "after":
                # The beginning of the closing tag of an emitted call.
                return ParsedText()
            case "object" if cut and (self._tags or _may_begin_call(held, self._names)):
                return ParsedText()
            case "text" if cut and _may_begin_tag(held.lstrip(), stop):
                return ParsedText()
        return ParsedText(held)

    def _step(self, shown: list[str], calls: list[ToolCall]) -> bool:
        """Process the held text; False if more is needed first."""
        match self._state:
            case "plain":
                return self._show(len(self._held), shown)
            case "text":
                return self._look_for_tag(shown)
            case "start":
                rest = self._held.lstrip()
                if rest.startswith("{"):
                    self._open(0)
                elif rest:
                    self._state = "plain"
                return bool(rest)
            case "object":
                return self._read_object(shown, calls)
            case "after":
                return self._after_call()

    def _show(self, count: int, shown: list[str]) -> bool:
        shown.append(self._held[:count])
        self._held = self._held[count:]
        return True

    def _open(self, begins: int) -> None:
        self.opened = True
        self._state = "object"
        self._from = begins
        self._scanner = _ObjectScanner(begins)

    def _look_for_tag(self, shown: list[str]) -> bool:
        held = self._held
        at = held.find(OPEN)
        complete = at >= 0
        if not complete:
            at = len(held) - next(size for size in range(len(OPEN) - 1, -1, -1) if held.endswith(OPEN[:size]))
        text = len(held[:at].rstrip())
        self._show(text, shown)
        if complete:
            self._open(at - text + len(OPEN))
        return complete

    def _read_object(self, shown: list[str], calls: list[ToolCall]) -> bool:
        end = self._scanner.scan(self._held)
        if end is None:
            return False
        if end < 0:
            # No object follows the tag; the text after it may contain another tag.
            self._state = "text"
            return self._show(self._from, shown)
        call = self._call(self._held[self._from : end])
        if call is None:
            self._state = "text" if self._tags else "plain"
            return self._show(end, shown)
        calls.append(call)
        self.called = True
        self._held = self._held[end:]
        self._state = "after"
        return True

    def _after_call(self) -> bool:
        rest = self._held.lstrip()
        if self._tags:
            if rest.startswith(CLOSE):
                self._held = rest[len(CLOSE) :]
            elif CLOSE.startswith(rest):
                return False
            self._state = "text"
        elif not rest:
            return False
        elif rest[0] == ";":
            self._held = rest[1:]
        elif rest[0] == "{":
            self._open(0)
        else:
            self._state = "plain"
        return True

    def _call(self, text: str) -> ToolCall | None:
        try:
            written = _call_decoder.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return None
        arguments = (bytes(written.arguments) or bytes(written.parameters) or b"{}").decode()
        return ToolCall(written.name, arguments) if written.name in self._names and arguments.startswith("{") else None


def _may_begin_tag(text: str, stop: str) -> bool:
    """Whether `text`, followed by `stop`, can be the beginning of a call's tag."""
    if not text:
        return False
    whole = text if text.endswith(stop) else text + stop
    return OPEN.startswith(whole) or whole.startswith(OPEN)


def _may_begin_call(text: str, names: Collection[str]) -> bool:
    """Whether an incomplete JSON object can become a call, by its first key and, if present, the name."""
    match = _BARE_BEGINNING.match(text)
    if match is None:
        return False
    key, value = match["key"] or "", match["value"] or ""
    if not match["key_ends"]:
        return any(candidate.startswith(key) for candidate in _FIRST_KEYS)
    values = {"name": [f'"{name}"' for name in names], "type": ['"function"']}.get(key)
    if values is None:
        return key in _FIRST_KEYS
    return any(candidate.startswith(value) for candidate in values)


class _ObjectScanner:
    """Finds the end of a JSON object by counting braces; reads every character once."""

    def __init__(self, begins: int = 0) -> None:
        self._at = begins
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def scan(self, text: str) -> int | None:
        """End of the object in `text`, which must extend that of the last call; None: incomplete; -1: no object."""
        while self._at < len(text):
            character = text[self._at]
            if not self._depth and character != "{":
                if not character.isspace():
                    return -1
            elif self._in_string:
                self._in_string = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if not self._depth:
                    self._at += 1
                    return self._at
            self._at += 1
        return None
