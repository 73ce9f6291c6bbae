"""Text and reasoning of a message, in all known forms. Sans-IO.

| form | used by |
| --- | --- |
| `content`: a string | all |
| `content`: parts of type `text`, `thinking` (a string, or a list), `refusal` | Mistral, Anthropic, some gateways |
| `reasoning_content` | DeepSeek, vLLM, SGLang, llama.cpp, Fireworks |
| `reasoning` | OpenRouter, Groq, Ollama, Together, newer vLLM |
| `reasoning_details` (`text`, `summary`) | OpenRouter; read where `reasoning` is not given |
| `thinking` | some gateways of Ollama and Anthropic |

If reasoning is sent under several names, it counts once.
"""

from typing import Any

from actors.upstream.reading.chunk import Message

_REASONING_TYPES = frozenset({"thinking", "reasoning", "reasoning_content", "reasoning.text", "reasoning.summary"})
_TEXT_TYPES = frozenset({"text", "output_text", "refusal"})


def text_of(message: Message) -> tuple[str, str]:
    """(content, reasoning) of a message."""
    content, reasoning = message.content, ""
    if type(content) is str and not _has_more(message):
        return content, ""
    if content is None:
        content = ""
    elif not isinstance(content, str):
        content, reasoning = _of_parts(content)
    if message.refusal:
        content += message.refusal
    named = (message.reasoning_content, message.reasoning, message.thinking, message.reasoning_details)
    reasoning += next((text for value in named if value is not None and (text := plain(value))), "")
    return content, reasoning


def refuses(message: Message) -> bool:
    """Whether its content is a refusal, and says so."""
    parts = message.content
    return bool(message.refusal) or (
        isinstance(parts, list) and any(isinstance(part, dict) and part.get("type") == "refusal" for part in parts)
    )


def parts_without_text(content: Any) -> list[Any]:
    """What a `content` of parts has beside text and reasoning: references, images, files."""
    if not isinstance(content, list):
        return []
    return [part for part in content if isinstance(part, dict) and _is_other(part)]


def _is_other(part: dict[str, Any]) -> bool:
    kind = _type_of(part)
    return bool(kind) and kind not in _TEXT_TYPES and kind not in _REASONING_TYPES and not plain(part)


def _type_of(part: dict[str, Any]) -> str:
    kind = part.get("type")
    return kind if isinstance(kind, str) else ""


def _has_more(message: Message) -> bool:
    """Whether the message has more than `content`; false for nearly all events."""
    return bool(
        message.reasoning_content
        or message.reasoning
        or message.reasoning_details
        or message.thinking
        or message.refusal
    )


def _of_parts(parts: Any) -> tuple[str, str]:
    texts: list[str] = []
    reasoning: list[str] = []
    for part in parts if isinstance(parts, list) else [parts]:
        if isinstance(part, dict) and _type_of(part) in _REASONING_TYPES:
            reasoning.append(plain(part))
        else:
            texts.append(plain(part))
    return "".join(texts), "".join(reasoning)


def plain(value: Any) -> str:
    """The text of a part or of parts; "" for parts without text (a signature, a reference, encrypted reasoning)."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(plain, value))
    if type(value) in {int, float}:
        # A server that writes untyped JSON: the whole text of the event is a number.
        return str(value)
    if isinstance(value, dict):
        for name in ("text", "thinking", "reasoning", "summary", "content", "refusal"):
            if value.get(name):
                return plain(value[name])
    return ""
