"""The user and the conversation that a body names; experiments assign arms by them."""

from gateway.openai.requests.sampling import SamplingBody

_CONVERSATION = ("conversation_id", "conversation", "thread_id", "session_id", "chat_id")
"""Keys of `metadata` that clients use for the conversation; the first one present counts."""


def user_of(body: SamplingBody) -> str | None:
    """`user`, or `safety_identifier`, which replaces it in newer clients."""
    return body.user or body.safety_identifier


def conversation_of(body: SamplingBody) -> str:
    """The conversation's name in `metadata`; "" without one."""
    metadata = body.metadata or {}
    return next((metadata[key] for key in _CONVERSATION if metadata.get(key)), "")
