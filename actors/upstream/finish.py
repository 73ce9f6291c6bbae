"""Why an answer ended, in the words of the servers in the field. Sans-IO.

A word that is not known here is no reason to lose an answer: it ended, and the reader is told the word itself.
"""

from typing import Any, Literal

import msgspec

from engine.messages import FinishReason

Trouble = Literal["failed", "broke_off", "load"]


class Ending(msgspec.Struct, frozen=True):
    """What a finish reason means."""

    reason: FinishReason
    trouble: Trouble | None = None
    """It is no end of an answer, but of the upstream's work on it."""
    calls: bool = False
    """It says that tools were called."""
    known: bool = True


_STOP, _LENGTH, _FILTER = Ending("stop"), Ending("length"), Ending("content_filter")
_CALLS = Ending("stop", calls=True)
_FAILED, _BROKE_OFF, _LOAD = Ending("error", "failed"), Ending("abort", "broke_off"), Ending("error", "load")
NO_END = frozenset({"", "null", "none", "finish_reason_unspecified"})
ENDINGS = {
    # OpenAI
    "stop": _STOP,
    "length": _LENGTH,
    "content_filter": _FILTER,
    "tool_calls": _CALLS,
    "function_call": _CALLS,
    # TGI, Together, Fireworks
    "eos": _STOP,
    "eos_token": _STOP,
    "stop_token": _STOP,
    "stop_string": _STOP,
    "end": _STOP,
    # Anthropic
    "end_turn": _STOP,
    "stop_sequence": _STOP,
    "max_tokens": _LENGTH,
    "model_context_window_exceeded": _LENGTH,
    "tool_use": _CALLS,
    "refusal": _FILTER,
    # Mistral, Cohere and others
    "complete": _STOP,
    "completed": _STOP,
    "model_length": _LENGTH,
    "max_length": _LENGTH,
    "max_new_tokens": _LENGTH,
    "max_output_tokens": _LENGTH,
    "tool_call": _CALLS,
    "content_filtered": _FILTER,
    "sensitive": _FILTER,
    # Gemini, in lower case
    "safety": _FILTER,
    "recitation": _FILTER,
    "blocklist": _FILTER,
    "prohibited_content": _FILTER,
    "spii": _FILTER,
    "language": _FILTER,
    "malformed_function_call": _FAILED,
    "unexpected_tool_call": _FAILED,
    # DeepSeek
    "insufficient_system_resource": _LOAD,
    "error": _FAILED,
    "error_finish": _FAILED,
    "internal_error": _FAILED,
    "server_error": _FAILED,
    "network_error": _FAILED,
    "failed": _FAILED,
    "timeout": _FAILED,
    "abort": _BROKE_OFF,
    "aborted": _BROKE_OFF,
    "cancelled": _BROKE_OFF,
    "canceled": _BROKE_OFF,
    "interrupted": _BROKE_OFF,
}


def ending_of(word: Any) -> Ending | None:
    """None: it says that there is no end yet."""
    found = ENDINGS.get(word) if isinstance(word, str) else None
    if found is not None:
        return found
    plain = str(word).strip().lower()
    if word is None or word is False or plain in NO_END:
        return None
    return ENDINGS.get(plain, _UNKNOWN)


_UNKNOWN = Ending("stop", known=False)
