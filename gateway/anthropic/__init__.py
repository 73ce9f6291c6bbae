"""Anthropic's Messages API: bodies in, answers and errors out. Documented in docs/messages.md."""
