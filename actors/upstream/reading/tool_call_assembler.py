"""Assembles tool calls from the fragments of a stream, in all known forms. Sans-IO; one per choice.

| form | used by |
| --- | --- |
| name first, then fragments of the arguments; an index and an id per call | OpenAI, vLLM, SGLang, llama.cpp |
| the name repeated in every fragment, or split in two | some proxies; OpenAI's rule is to concatenate |
| another id in every fragment | older vLLM |
| whole calls with ids, all at index 0 or without one | Ollama, Gemini |
| whole calls without index and id | older Gemini, some gateways |
| arguments as an object; null or absent if there are none | Ollama, Cloudflare, Mistral |
| all arguments so far in every fragment; repeated at the end; preceded by `{}` | some gateways |
| doubly encoded arguments; raw line ends within strings; an empty list | GLM, small models; PHP |
| `input` or `parameters` for `arguments`; the prefix `functions.` | Anthropic, Llama; gpt-oss, Kimi |
| `function_call` instead of `tool_calls` | the API before tools |

A fragment is assigned to a call by its index, id and name, and by the names of the offered tools: fragments are never
joined to a name that was not offered.
"""

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from actors.upstream.failures.failure import garbled
from actors.upstream.reading.chunk import CalledFunction, ToolCallPart
from actors.upstream.reading.lenient_chunk import whole_number
from engine.text.tool_calls import ToolCall

_MAX_CALLS = 128
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_ID = re.compile(r"[\x21-\x7e]{1,16384}")
"""LiteLLM appends a signature of the thought to it."""
_NO_ARGUMENTS = frozenset({"", "null", "{}", "[]"})
_encode = msgspec.json.Encoder().encode


class _Call:
    """One call in progress."""

    __slots__ = ("extra", "id", "index", "name", "pieces")

    def __init__(self, index: int | None, call_id: str | None) -> None:
        self.index = index
        self.id = call_id
        self.name = ""
        self.pieces: list[str] = []
        self.extra: dict[str, Any] | None = None

    def is_whole(self) -> bool:
        """Whether the arguments are a complete object, to which nothing can be added."""
        return bool(self.pieces) and self.pieces[-1].rstrip().endswith("}") and _is_object("".join(self.pieces))


class ToolCallAssembler:
    """Pass fragments to `take`, then get the calls from `whole`."""

    def __init__(self, offered: Collection[str]) -> None:
        self._offered = frozenset(offered)
        self._calls: list[_Call] = []

    def __bool__(self) -> bool:
        return bool(self._calls)

    def take_function(self, function: CalledFunction) -> str:
        """As `take`, for `function_call`, of which there is at most one."""
        return self.take([ToolCallPart(index=0, function=function)])

    def take(self, parts: Sequence[ToolCallPart]) -> str:
        """Add the fragments of one event; returns their text, for counting. Raises UpstreamCallError."""
        text = ""
        named: list[_Call] = []
        for part in parts:
            function = part.function or CalledFunction(part.name, part.arguments, part.parameters or part.input)
            name = (function.name or "").strip()
            arguments = _text(function.parameters if function.arguments is None else function.arguments)
            extra = part.extra_content if isinstance(part.extra_content, dict) else None
            if name or arguments or part.id:
                call = self._owner(part, name, arguments, named)
            elif extra is None or (known := self._known(whole_number(part.index), None)) is None:
                # Some servers send empty fields in every event.
                continue
            else:
                call = known
            if name:
                named.append(call)
            if arguments:
                call.pieces.append(arguments)
            call.extra = call.extra if extra is None else extra
            text += name + arguments
        return text

    def whole(self, *, cut: bool) -> tuple[ToolCall, ...]:
        """All calls. `cut`: the answer hit its length limit; an incomplete last call is dropped.

        Raises UpstreamCallError.
        """
        calls: list[ToolCall] = []
        ordered = sorted(self._calls, key=lambda call: call.index or 0)
        for call in ordered:
            arguments = _arguments(call.pieces)
            last = call is ordered[-1]
            if cut and last and (arguments is None or self._offered_name(call.name) not in self._offered):
                break
            name = self._offered_name(call.name)
            if not name:
                raise garbled("a tool call has no name", by_model=True)
            if name not in self._offered:
                shown = f"'{name}'" if _NAME.fullmatch(name) else "a tool"
                raise garbled(f"it calls {shown}, which was not offered", by_model=True)
            if arguments is None:
                raise garbled("the arguments of a tool call are not a JSON object", by_model=True)
            known = {earlier.id for earlier in calls}
            call_id = call.id if call.id is not None and _ID.fullmatch(call.id) and call.id not in known else ""
            calls.append(ToolCall(name, arguments, call_id, call.extra))
        return tuple(calls)

    def _offered_name(self, name: str) -> str:
        """Without the namespace that some models' formats prepend to names."""
        bare = name.removeprefix("functions.")
        return bare if name not in self._offered and bare in self._offered else name

    def _owner(self, part: ToolCallPart, name: str, arguments: str, named: Sequence[_Call]) -> _Call:
        """The call that a fragment belongs to, with its name updated."""
        index = whole_number(part.index)
        call_id = part.id if isinstance(part.id, str) and part.id else None
        owner = self._known(index, call_id)
        joined = None
        if owner is not None and not self._begins_another(owner, call_id, name, arguments, named):
            joined = self._joined(owner.name, name)
        if owner is None or joined is None:
            if len(self._calls) == _MAX_CALLS:
                raise garbled("it has more tool calls than the limit", by_model=True)
            owner, joined = _Call(index, call_id), name
            self._calls.append(owner)
        owner.name = joined
        owner.id = owner.id or call_id
        return owner

    def _known(self, index: int | None, call_id: str | None) -> _Call | None:
        """The call with this id, else the last one at this index, else the last one."""
        latest = None
        for call in reversed(self._calls):
            if index is not None and call.index not in {index, None}:
                continue
            if call_id is None or call.id == call_id:
                return call
            latest = latest or call
        return latest

    @staticmethod
    def _begins_another(owner: _Call, call_id: str | None, name: str, arguments: str, named: Sequence[_Call]) -> bool:
        if not name:
            return False
        if call_id is not None and call_id == owner.id:
            # A server without indices may use one id for all calls.
            again = owner in named or "".join(owner.pieces) != arguments
            return owner.index is None and owner.name == name and owner.is_whole() and again and _is_object(arguments)
        if call_id is not None and owner.id is not None:
            return call_id != owner.id and not (owner.name == name and owner.pieces and not owner.is_whole())
        if owner in named:
            return True
        if owner.id is not None and owner.name == name:
            return False
        return arguments.lstrip().startswith("{") and owner.is_whole()

    def _joined(self, name: str, piece: str) -> str | None:
        """The name extended by the fragment; None: the fragment belongs to another call."""
        if not piece or (piece == name and (name in self._offered or not self._begins_a_name(name + piece))):
            return name
        if not name or self._begins_a_name(name + piece):
            return name + piece
        if piece.startswith(name) and self._begins_a_name(piece):
            return piece
        return None if piece in self._offered else name + piece

    def _begins_a_name(self, text: str) -> bool:
        return any(name.startswith(text) for name in self._offered)


def _text(arguments: Any) -> str:
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else _encode(arguments).decode()


def _arguments(pieces: Sequence[str]) -> str | None:
    """The arguments as a JSON object; None: they are not one."""
    text = "".join(pieces)
    if text.strip() in _NO_ARGUMENTS:
        return "{}"
    if _is_object(text):
        return text
    last, before = pieces[-1], "".join(pieces[:-1])
    if _is_object(last) and (before == last or all(last.startswith(piece) for piece in pieces)):
        return last
    if pieces[0].strip() in _NO_ARGUMENTS and len(pieces) > 1:
        return _arguments(pieces[1:])
    return _rewritten(text)


def _rewritten(text: str) -> str | None:
    """Re-encode what lenient parsing accepts as an object; None: it is none."""
    try:
        value = json.loads(text, strict=False)
        if isinstance(value, str):
            value = json.loads(value, strict=False)
        return _encode(value).decode() if isinstance(value, dict) else None
    except (ValueError, RecursionError):
        return None


def _is_object(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True
