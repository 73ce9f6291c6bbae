"""Chat templates: render a conversation as the prompt text that the model was trained on."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls  # noqa: N812 - a class under an old name
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import ModelError, RequestRefused
from engine.text.tokenizer import read_json, special_token
from engine.text.tool_calls import ToolStyle, plain_turns, style_of

_REASONING = "reasoning_content"
_SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


class ChatTemplate:
    """Renders conversations as Hugging Face's `apply_chat_template` does, in jinja2's sandbox."""

    def __init__(
        self,
        source: str | None,
        special_tokens: Mapping[str, str],
        *,
        origin: str,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """`origin`: source of the template, for messages; `now`: clock of the template's `strftime_now`.

        Raises ModelError: the template is not valid jinja2.
        """
        self._origin = origin
        self._special_tokens = dict(special_tokens)
        self.tool_style: ToolStyle | None = style_of(source or "")
        """How the model writes tool calls; None: in an unknown way."""
        self._reasoning = _place_of_reasoning(source or "")
        self._knows_tools = "tools" in (source or "")
        self._source = source or ""
        self._template = None
        if source is None:
            return
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[LoopControls, _GenerationTag]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: now().strftime(form)
        self._knows_developer = "developer" in source
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ModelError("chat_template", f"{origin}: the chat template is not valid: {error}") from error

    @classmethod
    def load(cls, directory: Path) -> "ChatTemplate":
        """Load chat_template.jinja, or `chat_template` of tokenizer_config.json (the one named "default" of several).

        A model without a template can be loaded; `render` then refuses. Raises ModelError: a file cannot be read, or
        the template is not valid.
        """
        config_path = directory / "tokenizer_config.json"
        config = read_json(config_path)
        tokens = {name: special_token(config.get(name)) for name in _SPECIAL_TOKENS}
        path = directory / "chat_template.jinja"
        if path.is_file():
            try:
                return cls(path.read_text(encoding="utf-8"), tokens, origin=str(path))
            except (OSError, UnicodeDecodeError) as error:
                raise ModelError("chat_template", f"{path} cannot be read: {error}") from error
        value = config.get("chat_template")
        if isinstance(value, list):
            named = {str(entry.get("name")): entry.get("template") for entry in value if isinstance(entry, dict)}
            value = named.get("default")
        if value is not None and not isinstance(value, str):
            raise ModelError("chat_template", f"{config_path}: chat_template must be a text, or named texts")
        return cls(value, tokens, origin=str(config_path if value is not None else directory))

    def mentions(self, text: str) -> bool:
        return text in self._source

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt's text, special tokens included: encode it with `add_special_tokens=False`.

        `tools`, and tool calls in messages, have OpenAI's format, but with arguments as objects. Templates without tool
        support get them as text. Templates that do not mention the role "developer" get it as "system".
        `reasoning_content` of a message is passed under the name that the template reads, or dropped. Raises
        RequestRefused: there is no template, or it does not accept these messages.
        """
        if self._template is None:
            raise RequestRefused(
                "chat_template_missing",
                f"{self._origin} has no chat template: use /v1/completions for this model, or add chat_template.jinja.",
            )
        if not self._knows_developer:
            messages = [
                {**message, "role": "system"} if message.get("role") == "developer" else message for message in messages
            ]
        if self._reasoning != _REASONING and any(_REASONING in message for message in messages):
            messages = [self._moved_reasoning(message) for message in messages]
        if not self._knows_tools:
            messages = plain_turns(messages, tools)
        names = {"tools": list(tools) or None, "documents": None, **self._special_tokens, **(variables or {})}
        try:
            return self._template.render(messages=messages, add_generation_prompt=add_generation_prompt, **names)
        except _TemplateRefusal as refusal:
            raise RequestRefused(
                "chat_template_error", f"The model's chat template refuses: {_sentence(refusal)}"
            ) from refusal
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise RequestRefused(
                "chat_template_error", f"The model's chat template cannot render these messages: {_sentence(error)}"
            ) from error

    def _moved_reasoning(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        reasoning = message.get(_REASONING)
        if reasoning is None:
            return message
        rest = {name: value for name, value in message.items() if name != _REASONING}
        return rest if self._reasoning is None else {**rest, self._reasoning: reasoning}


def _sentence(error: Exception) -> str:
    text = str(error).rstrip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _place_of_reasoning(source: str) -> str | None:
    """The key under which a template reads the reasoning of earlier answers; None: it does not."""
    for name in (_REASONING, "thinking", "reasoning"):
        if re.search(rf"""\w\.{name}\b|\[["']{name}["']\]|\.get\(["']{name}["']|["']{name}["'] in """, source):
            return name
    return None


class _TemplateRefusal(Exception):  # noqa: N818 - it is the template's word, not an error of ours
    pass


def _raise_exception(message: str) -> NoReturn:
    raise _TemplateRefusal(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As in Hugging Face: no ASCII or HTML escapes, unlike jinja2's own filter."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _GenerationTag(Extension):
    """`{% generation %} … {% endgeneration %}` marks tokens to train on; rendered as its content."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
