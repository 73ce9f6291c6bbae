"""Tool calls found in an answer's text as it comes, in whatever pieces.

A call is atomic: its text is held until it is whole, and then given as a call if it names a tool of the request. What
looked like a call and is none is given as the text that it is. White space beside a call is dropped, and so is what an
answer that was cut off (by `max_tokens`, by a stop string) has of a call that is not whole.
"""

import re
from collections.abc import Collection
from typing import Literal

import msgspec

from engine.text.tool_calls import CLOSE, OPEN, ToolCall, ToolStyle


class Spoken(msgspec.Struct, frozen=True):
    """What is certain now."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()


class _Said(msgspec.Struct):
    """A call as a model writes it; some models mix the two words for the arguments up."""

    name: str
    arguments: msgspec.Raw = msgspec.Raw()
    parameters: msgspec.Raw = msgspec.Raw()


_said = msgspec.json.Decoder(_Said)
_FIRST_KEYS = ("name", "type", "parameters", "arguments")
"""That models begin a bare call with."""
_BARE_BEGINNING = re.compile(r'\s*\{\s*(?:"(?P<key>[^"]*)(?P<key_ends>")?(?:\s*:\s*(?P<value>[^\s,]*))?)?')


class ToolCallParser:
    """One answer's reader. Feed it all text, in order, then call `end`."""

    def __init__(self, style: ToolStyle, names: Collection[str], *, goes_on: bool = False) -> None:
        """`names`: the tools of the request. `goes_on`: text of the answer was shown before."""
        self._tags = style == "tags"
        self._names = names
        self._state: Literal["text", "start", "object", "after", "plain"] = (
            "text" if self._tags else "plain" if goes_on else "start"
        )
        self._held = ""
        self._from = 0
        """State "object": where it begins in what is held, after the tag."""
        self._scanner = _ObjectScanner()
        self.opened = False
        """A call has begun, or what looks like one; it stays so."""
        self.called = False
        """A call was given."""

    @property
    def holding(self) -> bool:
        """Not all that came was given."""
        return bool(self._held)

    def push(self, text: str) -> Spoken:
        """What this text makes certain."""
        self._held += text
        shown: list[str] = []
        calls: list[ToolCall] = []
        while self._held and self._step(shown, calls):
            pass
        return Spoken("".join(shown), tuple(calls))

    def end(self, *, cut: bool = False, stop: str = "") -> Spoken:
        """No more will come: what is held is text, whatever it looked like, unless it is the rest of a call's tags.

        `cut`: the model would have said more, so what may be the beginning of a call is no text. `stop`: the text that
        it was about to say, if that is known.
        """
        held, self._held = self._held, ""
        if self.called and not held.strip():
            return Spoken()
        match self._state:
            case "after":
                # The beginning of a closing tag: its call was given.
                return Spoken()
            case "object" if cut and (self._tags or _may_begin_call(held, self._names)):
                return Spoken()
            case "text" if cut and _may_begin_tag(held.lstrip(), stop):
                return Spoken()
        return Spoken(held)

    def _step(self, shown: list[str], calls: list[ToolCall]) -> bool:
        """Go on with what is held; False if more must come first."""
        match self._state:
            case "plain":
                return self._show(len(self._held), shown)
            case "text":
                return self._look_for_tag(shown)
            case "start":
                if rest := self._held.lstrip():
                    self._open(0) if rest[0] == "{" else self._become("plain")
                return bool(rest)
            case "object":
                return self._read_object(shown, calls)
            case "after":
                return self._after_call()

    def _show(self, count: int, shown: list[str]) -> bool:
        shown.append(self._held[:count])
        self._held = self._held[count:]
        return True

    def _become(self, state: Literal["text", "plain", "after"]) -> None:
        self._state = state

    def _open(self, begins: int) -> None:
        self.opened = True
        self._state = "object"
        self._from = begins
        self._scanner = _ObjectScanner(begins)

    def _look_for_tag(self, shown: list[str]) -> bool:
        held = self._held
        at = held.find(OPEN)
        found = at >= 0
        if not found:
            at = len(held) - next(size for size in range(len(OPEN) - 1, -1, -1) if held.endswith(OPEN[:size]))
        text = len(held[:at].rstrip())
        self._show(text, shown)
        if found:
            self._open(at - text + len(OPEN))
        return found

    def _read_object(self, shown: list[str], calls: list[ToolCall]) -> bool:
        end = self._scanner.scan(self._held)
        if end is None:
            return False
        if end < 0:
            # No object follows the tag; another tag may.
            self._become("text")
            return self._show(self._from, shown)
        call = self._call(self._held[self._from : end])
        if call is None:
            self._become("text" if self._tags else "plain")
            return self._show(end, shown)
        calls.append(call)
        self.called = True
        self._held = self._held[end:]
        self._become("after")
        return True

    def _after_call(self) -> bool:
        rest = self._held.lstrip()
        if self._tags:
            if rest.startswith(CLOSE):
                self._held = rest[len(CLOSE) :]
            elif CLOSE.startswith(rest):
                return False
            self._become("text")
        elif not rest:
            return False
        elif rest[0] == ";":
            self._held = rest[1:]
        elif rest[0] == "{":
            self._open(0)
        else:
            self._become("plain")
        return True

    def _call(self, text: str) -> ToolCall | None:
        try:
            said = _said.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return None
        arguments = (bytes(said.arguments) or bytes(said.parameters) or b"{}").decode()
        return ToolCall(said.name, arguments) if said.name in self._names and arguments.startswith("{") else None


def _may_begin_tag(text: str, stop: str) -> bool:
    """Whether what came, and what was about to, can be the beginning of a call's tag."""
    if not text:
        return False
    whole = text if text.endswith(stop) else text + stop
    return OPEN.startswith(whole) or whole.startswith(OPEN)


def _may_begin_call(text: str, names: Collection[str]) -> bool:
    """Whether a JSON object that is not whole can become a call, by its first key and by the name, if that came."""
    found = _BARE_BEGINNING.match(text)
    if found is None:
        return False
    key, value = found["key"] or "", found["value"] or ""
    if not found["key_ends"]:
        return any(each.startswith(key) for each in _FIRST_KEYS)
    values = {"name": [f'"{name}"' for name in names], "type": ['"function"']}.get(key)
    if values is None:
        return key in _FIRST_KEYS
    return any(each.startswith(value) for each in values)


class _ObjectScanner:
    """Finds the end of a JSON object by its braces; reads every character once."""

    def __init__(self, begins: int = 0) -> None:
        self._at = begins
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def scan(self, text: str) -> int | None:
        """Where the object ends in `text`, which has only grown since the last call; None: not yet; -1: no object."""
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
