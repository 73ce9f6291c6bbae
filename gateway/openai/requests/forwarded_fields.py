"""Fields that no engine supports, and the fields that are forwarded to upstreams as the client wrote them.

A value without effect is accepted, so that clients work which always send the field. Another value is never ignored: it
is forwarded if an upstream may support it, and otherwise refused.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from gateway.errors import BadField
from gateway.openai.requests.json_body import GivenFields
from gateway.openai.requests.neutral import EMPTY, INTEGER, LIST, OBJECT, TEXT, Neutral, any_of, either
from policies.errors import unsupported

_MAX_LABELS = 16
_MAX_NAME_CHARACTERS = 64
_MAX_LABEL_CHARACTERS = 512
_SWITCHES = {"enable_thinking", "thinking"}
_READ_HERE = frozenset({
    "best_of",
    "echo",
    "endpoint",
    "id",
    "messages",
    "model",
    "n",
    "penstock",
    "prompt",
    "stream",
    "type",
})  # fmt: skip
"""Fields that the gateway itself handles or replaces."""


def switched(value: object) -> bool | None:
    """`chat_template_kwargs` that only switch the reasoning on or off; None: others, or none."""
    if not isinstance(value, dict) or not value or not value.keys() <= _SWITCHES:
        return None
    first, *others = value.values()
    return first if isinstance(first, bool) and all(each is first for each in others) else None


def _are_labels(value: object) -> bool:
    """Within the bounds that the OpenAI API sets."""
    return (
        isinstance(value, dict)
        and len(value) <= _MAX_LABELS
        and all(
            len(name) <= _MAX_NAME_CHARACTERS and isinstance(each, str) and len(each) <= _MAX_LABEL_CHARACTERS
            for name, each in value.items()
        )
    )


_SWITCH = Neutral(
    lambda value: switched(value) is not None,
    {
        "type": "object",
        "properties": {name: {"type": "boolean"} for name in sorted(_SWITCHES)},
        "additionalProperties": False,
        "minProperties": 1,
    },
)
LABELS = Neutral(
    _are_labels,
    {
        "type": "object",
        "maxProperties": _MAX_LABELS,
        "propertyNames": {"maxLength": _MAX_NAME_CHARACTERS},
        "additionalProperties": {"type": "string", "maxLength": _MAX_LABEL_CHARACTERS},
    },
)


_COMMON: Mapping[str, Neutral] = {
    "detokenize": any_of(True),
    "guided_decoding_backend": TEXT,
    "guided_whitespace_pattern": EMPTY,
    "kv_transfer_params": EMPTY,
    "length_penalty": any_of(1, 1.0),
    "logits_processors": EMPTY,
    "media_io_kwargs": EMPTY,
    "metadata": LABELS,
    "priority": any_of(0),
    "prompt_cache_key": TEXT,
    "return_token_ids": any_of(False),
    "request_id": EMPTY,
    "return_tokens_as_token_ids": any_of(False),
    "safety_identifier": TEXT,
    "service_tier": any_of("auto", "default"),
    "store": any_of(False),
    "structural_tag": EMPTY,
    "use_beam_search": any_of(False),
    "vllm_xargs": EMPTY,
}
CHAT: Mapping[str, Neutral] = {
    **_COMMON,
    "add_generation_prompt": any_of(True),
    "add_special_tokens": any_of(False),
    "audio": EMPTY,
    "chat_template": EMPTY,
    "chat_template_kwargs": either(EMPTY, _SWITCH),
    "continue_final_message": any_of(False),
    "documents": EMPTY,
    "echo": any_of(False),
    "include_reasoning": any_of(True, False),
    "mm_processor_kwargs": EMPTY,
    "modalities": any_of(["text"]),
    "prediction": EMPTY,
    "prompt_cache_retention": TEXT,
    "reasoning_effort": TEXT,
    "verbosity": any_of("medium"),
    "web_search_options": EMPTY,
}
COMPLETION: Mapping[str, Neutral] = {
    **_COMMON,
    "add_special_tokens": any_of(True),
    "prompt_embeds": EMPTY,
    "suffix": EMPTY,
}


RESPONSES: Mapping[str, Neutral] = {
    **_COMMON,
    "access_programs": EMPTY,
    "add_generation_prompt": any_of(True),
    "chat_template": EMPTY,
    "chat_template_kwargs": EMPTY,
    "context_management": EMPTY,
    "documents": EMPTY,
    "image": EMPTY,
    "include_reasoning": any_of(True),
    "moderation": EMPTY,
    "prompt": EMPTY,
    "prompt_cache_options": any_of({}, {"mode": "implicit"}),
    "prompt_cache_retention": TEXT,
    "store": any_of(True, False),
}


FOR_UPSTREAMS: Mapping[str, Neutral] = {
    "audio": OBJECT,
    "chat_template_kwargs": OBJECT,
    "documents": LIST,
    "modalities": LIST,
    "prediction": OBJECT,
    "priority": INTEGER,
    "service_tier": TEXT,
    "store": any_of(True, False),
    "verbosity": TEXT,
    "vllm_xargs": OBJECT,
    "web_search_options": OBJECT,
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


def extra_fields(given: GivenFields, body: msgspec.Struct) -> tuple[str, ...]:
    """Names of fields that the body does not have: some upstream knows them. `null` counts as absent."""
    known = _fields_of(type(body))
    if given.keys() <= known:
        return ()
    return tuple([name for name, value in given.items() if value is not None and name not in known])


@cache
def _fields_of(kind: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(kind.__struct_encode_fields__)


def written(given: GivenFields) -> dict[str, Any]:
    """The fields that an upstream may get unchanged. `null` counts as absent."""
    return {name: value for name, value in given.items() if value is not None and name not in _READ_HERE}
