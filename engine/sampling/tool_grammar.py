"""The grammar that forces well-formed tool calls."""

import json
from typing import Any

from engine.errors import RequestRefused
from engine.sampling.grammar import Grammar, json_rules
from engine.sampling.schema_relax import relax, strict_fault
from engine.text.tool_calls import CLOSE, OPEN, Tool, ToolSet, ToolStyle

MAX_CALLS = 16
"""Maximum number of calls in one answer under a grammar."""


def calls_grammar(style: ToolStyle, offered: ToolSet, content: Grammar | None = None) -> Grammar | None:
    """The grammar that constrains the answer to well-formed calls; None: none is needed.

    With choice "auto" one is needed if a tool is strict or there is `content`, the JSON constraint of an answer without
    calls. Raises RequestRefused: the format cannot be combined with `content`.
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
                "This model writes a call as plain JSON, so an answer cannot be either a call or JSON of another form: "
                "leave 'response_format' out, or set 'tool_choice' to \"required\" or \"none\".",
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
            raise RequestRefused("grammar_invalid", f"The schema of {where}, which is strict, cannot be used: {fault}.")
    except (ValueError, RecursionError) as error:
        raise RequestRefused("grammar_invalid", f"The schema of {where} cannot be used: {error}.") from None
    return json.dumps({**schema, "x-guidance": json_rules(schema, lenient=lenient)})
