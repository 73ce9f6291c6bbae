"""Marks of a conversation's beginnings, by which the address is found that has answered it before. Pure."""

from hashlib import blake2b

import msgspec

from actors.api.content import MediaPart
from actors.api.request import ChatMessage, ChatPrompt, Prompt

_LEAST_BYTES = 1024
"""Shorter beginnings are computed faster than another address is worth; servers cache 16 to 1024 tokens at least."""
_encode = msgspec.json.Encoder().encode


def conversation_marks(prompt: Prompt, model: str, salt: bytes, cache_key: str) -> tuple[bytes, ...]:
    """One for each message that ends a beginning, shortest first; with the client's own key only one, of that.

    `salt`: of the cache domain, so that no tenant's requests follow those of another. Empty for short conversations and
    for prompts that are none.
    """
    state = blake2b(salt, digest_size=16, person=b"conversation")
    state.update(_encode([model, cache_key]))
    if cache_key:
        return (state.digest(),)
    if not isinstance(prompt, ChatPrompt):
        return ()
    if prompt.tools is not None:
        state.update(_encode([tool.definition for tool in prompt.tools.tools]))
    marks: list[bytes] = []
    size = 0
    for message in prompt.messages:
        written = _written(message)
        state.update(written)
        size += len(written)
        if size >= _LEAST_BYTES:
            marks.append(state.copy().digest())
    return tuple(marks)


def _written(message: ChatMessage) -> bytes:
    """What a model reads of it; without marks of the cache, which move on from turn to turn, and without reasoning."""
    media = [(part.medium, part.digest.hex()) for part in message.parts if isinstance(part, MediaPart)]
    calls = [(call.name, call.arguments) for call in message.tool_calls]
    return _encode([message.role, message.content, media, calls, message.tool_call_id])
