"""What an upstream's answer says beside the fields that are read here: it is passed on as it came.

| where | such as |
| --- | --- |
| `body`: beside `choices` | `citations`, `search_results`, `service_tier`, `timings` |
| `choice`: beside its content | `content_filter_results`, `native_finish_reason`, `stop_reason` |
| `message`: beside `content` | `annotations`, `audio`, `images`, `reasoning_details`, `thinking_blocks` |
| `usage`: beside the counts that are charged | `cost`, `audio_tokens` |

A value of `body`, `choice` or `usage` replaces an earlier one. Those of `message` are fragments, which add up, beside
labels such as a `channel`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from actors.api.fragments import ONE_VALUE, joined_objects

Fields = Mapping[str, Any]
_OF_PROMPT = ("prompt_", "input_")
"""How the names begin of what a usage says about the prompt."""
_WITH_REASONING = frozenset({"reasoning_details", "thinking_blocks", "provider_specific_fields"})
"""Fields of a message that come with the reasoning, and repeat it."""
_REASONING = frozenset({
    "reasoning_details", "thinking_blocks", "reasoning_content", "reasoning", "thinking", "reasoning_opaque",
})  # fmt: skip
"""Fields that have reasoning or its signatures, also within others."""
_MAX_DEPTH = 64
"""Of what is passed on: it is joined and written again in many places, none of which may run out of stack."""


class ExtraFields(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Of one choice."""

    body: Fields = {}
    choice: Fields = {}
    message: Fields = {}
    usage: Fields = {}
    size: int = 0
    """In bytes, about."""


def is_label(name: str, value: Any) -> bool:
    """Whether it only says something about the message around it, and is no part of the answer."""
    return not isinstance(value, list | Mapping) and not (isinstance(value, str) and name not in ONE_VALUE)


def is_answer(message: Fields) -> bool:
    """Whether these fields of a message are part of the answer, not only of its reasoning."""
    return any(name not in _WITH_REASONING and not is_label(name, value) for name, value in message.items())


def without_reasoning(message: Fields) -> Fields:
    """The fields of a message that have no reasoning: where some come with it, at any depth."""
    return message if message.keys().isdisjoint(_REASONING | _WITH_REASONING) else _without(message)


def _without(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without(each) for name, each in value.items() if name not in _REASONING}
    return [_without(each) for each in value] if isinstance(value, list) else value


def is_too_deep(value: Any) -> bool:
    """Whether it is nested so deeply that it is not passed on."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, Mapping) else each)
            if isinstance(inner, list | Mapping)
        ]
        if not level:
            return False
    return True


def joined(parts: Sequence[ExtraFields]) -> ExtraFields | None:
    """Those of several parts of a choice, in order. None: there are none."""
    if len(parts) < 2:
        return parts[0] if parts else None
    return ExtraFields(
        _latest([each.body for each in parts]),
        _latest([each.choice for each in parts]),
        joined_objects([each.message for each in parts]),
        _latest([each.usage for each in parts]),
        sum([each.size for each in parts]),
    )


def added(usages: Sequence[Fields], per_prompt: int = 1) -> Fields:
    """What is said of the usage of all choices: numbers add up, of other values the last counts.

    `per_prompt`: so many choices in a row have one prompt, which counts once.
    """
    if len(usages) < 2:
        return usages[0] if usages else {}
    whole: dict[str, Any] = {}
    for number, usage in enumerate(usages):
        for name, value in usage.items():
            if number % per_prompt and name.startswith(_OF_PROMPT):
                continue
            before = whole.get(name)
            if isinstance(value, Mapping) and isinstance(before, Mapping):
                whole[name] = added([before, value])
            elif _is_number(value) and _is_number(before):
                whole[name] = before + value
            else:
                whole[name] = value
    return whole


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _latest(objects: Sequence[Fields]) -> Fields:
    return {name: value for each in objects for name, value in each.items()}
