"""Meaning of finish reasons, in the vocabularies of all known servers. Sans-IO.

An unknown finish reason does not fail the answer: it counts as a stop, and is passed on to the client.
"""

import re
from typing import Any, Literal

import msgspec

from engine.messages import FinishReason

AbnormalEnd = Literal["failed", "by_model", "broke_off", "load"]
"""by_model: the server works, but its model's output is invalid, which a prompt can cause."""


class FinishMeaning(msgspec.Struct, frozen=True):
    """The meaning of a finish reason."""

    reason: FinishReason
    abnormal: AbnormalEnd | None = None
    """The server stopped abnormally: the answer has failed."""
    calls: bool = False
    """Tools were called."""
    known: bool = True


_STOP, _LENGTH, _FILTER = FinishMeaning("stop"), FinishMeaning("length"), FinishMeaning("content_filter")
_CALLS = FinishMeaning("stop", calls=True)
_FAILED, _BY_MODEL, _BROKE_OFF, _LOAD = (
    FinishMeaning("error", "failed"),
    FinishMeaning("error", "by_model"),
    FinishMeaning("abort", "broke_off"),
    FinishMeaning("error", "load"),
)
NO_END = frozenset({"", "null", "none", "finish_reason_unspecified", "not_finished"})


def _words(ending: FinishMeaning, words: str) -> dict[str, FinishMeaning]:
    return dict.fromkeys(words.split(), ending)


def _bare(word: str) -> str:
    """Normalize: `MAX_TOKENS`, `maxTokens`, `max-tokens` and `FinishReason.MAX_TOKENS` are equal."""
    return _NO_LETTER.sub("", word.rpartition(".")[2]).lower()


_NO_LETTER = re.compile(r"[\W_]+")
ENDINGS = {
    # OpenAI; TGI, Together, Fireworks; Anthropic; Mistral, Cohere; LM Studio; Baidu; Aleph Alpha
    **_words(_STOP, "stop eos eos_token stop_token stop_string end end_turn stop_sequence complete completed"),
    **_words(_STOP, "eos_found stop_string_found end_of_text normal"),
    **_words(_CALLS, "tool_calls function_call tool_use tool_call"),
    **_words(_LENGTH, "length max_tokens model_length max_length max_new_tokens max_output_tokens max_output"),
    **_words(_LENGTH, "max_completion_tokens model_context_window_exceeded context_length_reached error_limit"),
    **_words(_LENGTH, "max_predicted_tokens_reached maximum_tokens max_tokens_reached token_limit time_limit"),
    **_words(_FILTER, "content_filter content_filtered refusal sensitive guardrail_intervened error_toxic"),
    # Gemini
    **_words(_FILTER, "safety recitation blocklist prohibited_content spii language"),
    **_words(_FILTER, "image_safety image_prohibited_content image_recitation"),
    **_words(_BY_MODEL, "malformed_function_call malformed_tool_call malformed_response invalid_tool_call"),
    **_words(_BY_MODEL, "unexpected_tool_call too_many_tool_calls"),
    # DeepSeek
    **_words(_LOAD, "insufficient_system_resource"),
    **_words(_FAILED, "error error_finish internal_error server_error network_error model_error failed timeout"),
    **_words(_BROKE_OFF, "abort aborted cancelled canceled interrupted user_cancel user_stopped model_unloaded"),
}
_NO_END = frozenset(map(_bare, NO_END))
_ENDINGS = {_bare(word): ending for word, ending in ENDINGS.items()}


def finish_meaning(word: Any) -> FinishMeaning | None:
    """The meaning of a finish reason; None: the answer has not ended yet."""
    known = ENDINGS.get(word) if isinstance(word, str) else None
    if known is not None:
        return known
    if isinstance(word, dict):
        # SGLang's native form: {"type": "length", "length": 16}
        word = word.get("type") or word.get("reason")
    plain = _bare(str(word))
    if word is None or word is False or plain in _NO_END:
        return None
    return _ENDINGS.get(plain, _UNKNOWN)


_UNKNOWN = FinishMeaning("stop", known=False)
