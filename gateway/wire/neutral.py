"""Fields that OpenAI or vLLM define and this server does not act upon.

A value that changes nothing is accepted, so that clients which always send the field work; any other value is refused,
never ignored.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gateway.errors import BadField

_MAX_LABELS = 16
_MAX_NAME_CHARACTERS = 64
_MAX_LABEL_CHARACTERS = 512
Neutral = Callable[[Any], bool]


def _any_of(*values: object) -> Neutral:
    return lambda value: any(value == each and type(value) is type(each) for each in values)


def _empty(value: object) -> bool:
    return value in ([], {}, "")


def _text(value: object) -> bool:
    return isinstance(value, str)


def _labels(value: object) -> bool:
    """Within the bounds that the OpenAI API sets."""
    return (
        isinstance(value, dict)
        and len(value) <= _MAX_LABELS
        and all(
            len(name) <= _MAX_NAME_CHARACTERS and isinstance(each, str) and len(each) <= _MAX_LABEL_CHARACTERS
            for name, each in value.items()
        )
    )


_COMMON: Mapping[str, Neutral] = {
    "metadata": _labels,
    "prompt_cache_key": _text,
    "safety_identifier": _text,
    "service_tier": _any_of("auto", "default"),
    "store": _any_of(False),
}
CHAT: Mapping[str, Neutral] = {
    **_COMMON,
    "audio": _empty,
    "modalities": _any_of(["text"]),
    "prediction": _empty,
    "prompt_cache_retention": _text,
    "reasoning_effort": _any_of("none"),
    "verbosity": _any_of("medium"),
    "web_search_options": _empty,
}
COMPLETION: Mapping[str, Neutral] = {
    **_COMMON,
    "best_of": _any_of(1),
    "echo": _any_of(False),
    "suffix": _empty,
}


def check(body: msgspec.Struct, neutral: Mapping[str, Neutral]) -> None:
    """Raises `BadField` for a field of the table whose value would ask for something. `null` never does."""
    for name, accepts in neutral.items():
        value = getattr(body, name)
        if value is not None and not accepts(value):
            raise BadField(
                name,
                f"'{name}' is not supported by this server with that value. Remove the field.",
                "unsupported_parameter",
            )
