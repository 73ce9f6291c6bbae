"""Fields that no engine supports, and the fields that are forwarded to upstreams as the client wrote them.

A value without effect is accepted, so that clients work which always send the field. Another value is never ignored: it
is forwarded if an upstream may support it, and otherwise refused.
"""

from collections.abc import Callable, Mapping
from typing import Any

from gateway.errors import BadField
from gateway.openai.requests.json_body import GivenFields
from policies.errors import unsupported

_MAX_LABELS = 16
_MAX_NAME_CHARACTERS = 64
_MAX_LABEL_CHARACTERS = 512
_READ_HERE = frozenset({
    "best_of",
    "echo",
    "endpoint",
    "id",
    "messages",
    "model",
    "n",
    "prompt",
    "stream",
    "type",
})  # fmt: skip
"""Fields that the gateway itself handles or replaces."""
Neutral = Callable[[Any], bool]


def _any_of(*values: object) -> Neutral:
    return lambda value: any(value == each and type(value) is type(each) for each in values)


def _empty(value: object) -> bool:
    return value in ([], {}, "")


def _text(value: object) -> bool:
    return isinstance(value, str)


def _object(value: object) -> bool:
    return isinstance(value, dict)


def switched(value: object) -> bool | None:
    """`chat_template_kwargs` that only switch the reasoning on or off; None: others, or none."""
    if not isinstance(value, dict) or not value or not value.keys() <= {"enable_thinking", "thinking"}:
        return None
    first, *others = value.values()
    return first if isinstance(first, bool) and all(each is first for each in others) else None


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
    "detokenize": _any_of(True),
    "guided_decoding_backend": _text,
    "guided_whitespace_pattern": _empty,
    "kv_transfer_params": _empty,
    "length_penalty": _any_of(1, 1.0),
    "logits_processors": _empty,
    "media_io_kwargs": _empty,
    "metadata": _labels,
    "priority": _any_of(0),
    "prompt_cache_key": _text,
    "return_token_ids": _any_of(False),
    "request_id": _empty,
    "return_tokens_as_token_ids": _any_of(False),
    "safety_identifier": _text,
    "service_tier": _any_of("auto", "default"),
    "store": _any_of(False),
    "structural_tag": _empty,
    "use_beam_search": _any_of(False),
    "vllm_xargs": _empty,
}
CHAT: Mapping[str, Neutral] = {
    **_COMMON,
    "add_generation_prompt": _any_of(True),
    "add_special_tokens": _any_of(False),
    "audio": _empty,
    "chat_template": _empty,
    "chat_template_kwargs": lambda value: _empty(value) or switched(value) is not None,
    "continue_final_message": _any_of(False),
    "documents": _empty,
    "echo": _any_of(False),
    "include_reasoning": _any_of(True, False),
    "mm_processor_kwargs": _empty,
    "modalities": _any_of(["text"]),
    "prediction": _empty,
    "prompt_cache_retention": _text,
    "reasoning_effort": _text,
    "verbosity": _any_of("medium"),
    "web_search_options": _empty,
}
COMPLETION: Mapping[str, Neutral] = {
    **_COMMON,
    "add_special_tokens": _any_of(True),
    "prompt_embeds": _empty,
    "suffix": _empty,
}


RESPONSES: Mapping[str, Neutral] = {
    **_COMMON,
    "access_programs": _empty,
    "add_generation_prompt": _any_of(True),
    "chat_template": _empty,
    "chat_template_kwargs": _empty,
    "context_management": _empty,
    "documents": _empty,
    "image": _empty,
    "include_reasoning": _any_of(True),
    "moderation": _empty,
    "prompt": _empty,
    "prompt_cache_options": _any_of({}, {"mode": "implicit"}),
    "prompt_cache_retention": _text,
    "store": _any_of(True, False),
}


FOR_UPSTREAMS: Mapping[str, Neutral] = {
    "chat_template_kwargs": _object,
    "documents": lambda value: isinstance(value, list),
    "prediction": _object,
    "priority": lambda value: type(value) is int,
    "service_tier": _text,
    "store": _any_of(True, False),
    "verbosity": _text,
    "vllm_xargs": _object,
    "web_search_options": _object,
}
"""Fields whose other values an upstream may support, and the form of such values."""


def needs_upstream(given: GivenFields, neutral: Mapping[str, Neutral]) -> tuple[str, ...]:
    """Fields whose values only an upstream may support. `null` counts as absent.

    Raises `BadField` for a value that is not supported at all.
    """
    if neutral.keys().isdisjoint(given):
        return ()
    needs: list[str] = []
    for name, value in given.items():
        accepts = neutral.get(name)
        if accepts is None or value is None or accepts(value):
            continue
        may_be = FOR_UPSTREAMS.get(name)
        if may_be is None or not may_be(value):
            raise BadField(name, unsupported(name), "unsupported_parameter")
        needs.append(name)
    return tuple(needs)


def written(given: GivenFields) -> dict[str, Any]:
    """The fields that an upstream may get unchanged. `null` counts as absent."""
    return {name: value for name, value in given.items() if value is not None and name not in _READ_HERE}
