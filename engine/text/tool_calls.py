"""Tool calls: the format that a chat template implies, and a textual fallback.

There are two formats. "tags" (Hermes, Qwen): each call is `<tool_call>`, a JSON object with `name` and `arguments`,
`</tool_call>`, anywhere in the answer. "bare" (Llama 3): the answer itself is such an object, with `parameters`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from engine.text.tokenizer import CALL_TAGS

OPEN, CLOSE = CALL_TAGS
ToolStyle = Literal["tags", "bare"]
ToolTurn = Mapping[str, Any]


class Tool(msgspec.Struct, frozen=True):
    """A function that the client offers."""

    name: str
    definition: dict[str, Any]
    """The definition as received, `{"type": "function", "function": {…}}`, passed to templates. Not to be modified."""
    parameters: dict[str, Any]
    """JSON Schema of the arguments."""
    strict: bool = False
    """The arguments must match the schema even if calling is optional."""


class ToolSet(msgspec.Struct, frozen=True):
    """The tools of a request, and whether one must be called."""

    tools: tuple[Tool, ...]
    choice: Literal["auto", "required"] = "auto"
    only: str | None = None
    """With "required": the tool that must be called."""
    parallel: bool = True
    """Several calls in one answer are allowed."""

    @property
    def names(self) -> frozenset[str]:
        return frozenset(tool.name for tool in self.tools)


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call made by the model."""

    name: str
    arguments: str
    """A JSON object, with the model's formatting."""
    id: str = ""
    """Assigned by an upstream."""
    extra: dict[str, Any] | None = None
    """Gemini's `extra_content`, if present."""


def style_of(template: str) -> ToolStyle | None:
    """The format of tool calls that a chat template implies; None: an unknown one.

    A template without tool support gets "tags", which `plain_turns` explains to the model.
    """
    if OPEN in template or "tools" not in template:
        return "tags"
    if "parameters" in template and ("<|python_tag|>" in template or "function name" in template):
        return "bare"
    return None


def plain_turns(turns: Sequence[ToolTurn], tools: Iterable[Mapping[str, Any]]) -> list[ToolTurn]:
    """A conversation with tools as plain text with tags, for templates without tool support."""
    plain: list[ToolTurn] = []
    for turn in turns:
        match turn:
            case {"role": "tool", "content": content}:
                response = f"<tool_response>\n{content}\n</tool_response>"
                if plain and plain[-1].get("is_response"):
                    plain[-1] = {**plain[-1], "content": f"{plain[-1]['content']}\n{response}"}
                else:
                    plain.append({"role": "user", "content": response, "is_response": True})
            case {"tool_calls": calls, "content": content}:
                texts = [_call_text(call["function"]["name"], call["function"]["arguments"]) for call in calls]
                plain.append({"role": turn["role"], "content": "\n".join([content, *texts] if content else texts)})
            case _:
                plain.append(turn)
    definitions = "\n".join([json.dumps(tool["function"], ensure_ascii=False) for tool in tools])
    if not definitions:
        return plain
    preamble = (
        f"You can call these functions:\n{definitions}\nTo call one, write its name and its arguments between tags:\n"
        f'{OPEN}\n{{"name": "…", "arguments": {{…}}}}\n{CLOSE}'
    )
    if plain and plain[0]["role"] in {"system", "developer"}:
        plain[0] = {**plain[0], "content": f"{plain[0]['content']}\n\n{preamble}"}
        return plain
    return [{"role": "system", "content": preamble}, *plain]


def _call_text(name: str, arguments: Any) -> str:
    return f"{OPEN}\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n{CLOSE}"
