"""Tool calls: the format that a chat template implies, the grammar that forces it, and a textual fallback.

There are two formats. "tags" (Hermes, Qwen): each call is `<tool_call>`, a JSON object with `name` and `arguments`,
`</tool_call>`, anywhere in the answer. "bare" (Llama 3): the answer itself is such an object, with `parameters`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from engine.errors import RequestRefused
from engine.sampling.grammar import JSON_RULES, Grammar
from engine.sampling.schema_relax import relax, strict_fault
from engine.text.tokenizer import CALL_TAGS

OPEN, CLOSE = CALL_TAGS
MAX_CALLS = 16
"""Maximum number of calls in one answer under a grammar."""
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


def calls_grammar(style: ToolStyle, offered: ToolSet, content: Grammar | None = None) -> Grammar | None:
    """The grammar that constrains the answer to well-formed calls; None: none is needed.

    With choice "auto" one is needed if a tool is strict or there is `content`, the JSON constraint of an answer without
    calls.

    Raises:
        RequestRefused: the format cannot be combined with `content`.
    """
    forced = offered.choice == "required"
    if not forced and content is None and not any(tool.strict for tool in offered.tools):
        return None
    tools = [tool for tool in offered.tools if offered.only in {None, tool.name}]
    passed_over: list[str] = []
    rules = [_call_rule(style, index, tool, passed_over) for index, tool in enumerate(tools)]
    rules.append("body: " + " | ".join(f"body_{index}" for index in range(len(tools))))
    many = MAX_CALLS if style == "tags" and offered.parallel and offered.only is None else 1
    closed = f'body "\\n{CLOSE}"'
    call = f'"{OPEN}\\n" {closed}' if style == "tags" else "body"
    calls = f'{call} ("\\n" {call}){{0,{many - 1}}}' if many > 1 else call
    if forced:
        start = calls
    elif content is not None:
        if style == "bare":
            raise RequestRefused(
                "tools_not_supported",
                "this model writes a call as plain JSON, so an answer cannot be either a call or JSON of another form: "
                "leave 'response_format' out, or set 'tool_choice' to \"required\" or \"none\"",
            )
        start = f"{calls} | content"
        schema = json.loads(content.source)
        rules.append(f"content: %json {_schema(schema, content.param, passed_over, lenient=content.lenient)}")
    elif style == "bare":
        start = f"{calls} | text"
        rules.append(r"text: /[^{ \n\r\t](.|\n)*/ |")
    else:
        start = f'(opened "\\n" {closed}){{0,{many}}} text'
        rules += ["text: ANY", f'opened[lazy]: ANY "{OPEN}"', r"ANY: /(.|\n)*/"]
    return Grammar("grammar", "\n".join([f"start: {start}", *rules]), param="tools", passed_over=tuple(passed_over))


def _call_rule(style: ToolStyle, index: int, tool: Tool, passed_over: list[str]) -> str:
    key = "arguments" if style == "tags" else "parameters"
    head = json.dumps(f'{{"name": {json.dumps(tool.name)}, "{key}": ')
    arguments = _schema(tool.parameters, f"tools.{tool.name}", passed_over, lenient=not tool.strict)
    return f'body_{index}: {head} args_{index} "}}"\nargs_{index}: %json {arguments}'


def _schema(schema: dict[str, Any], where: str, passed_over: list[str], *, lenient: bool) -> str:
    """The schema in llguidance's form. Raises RequestRefused if it is strict and cannot be enforced."""
    try:
        if lenient:
            relaxed = relax(schema)
            schema = relaxed.schema
            passed_over += [f"{where}{place}" for place in relaxed.passed_over]
        elif fault := strict_fault(schema):
            raise RequestRefused("grammar_invalid", f"the schema of {where}, which is strict, cannot be used: {fault}")
    except (ValueError, RecursionError) as error:
        raise RequestRefused("grammar_invalid", f"the schema of {where} cannot be used: {error}") from None
    return json.dumps({**schema, "x-guidance": {**JSON_RULES, "lenient": lenient}})


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
