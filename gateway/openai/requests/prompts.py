"""Texts and token ids, one or several: what text completions and embeddings are made of."""

from typing import Any

from actors.api.request import Prompt, TextPrompt, TokenPrompt
from gateway.errors import BadField


def prompts_of(field: str, prompt: str | list[str | int | list[int]]) -> tuple[Prompt, ...]:
    """Text, token ids, or a list of either, given in `field`. Raises `BadField`."""
    if isinstance(prompt, str):
        return (TextPrompt(prompt),)
    if not prompt:
        raise BadField(field, f"'{field}' must not be an empty list.")
    kind = type(prompt[0])
    if not all(type(each) is kind for each in prompt):
        raise BadField(field, f"'{field}' must be text, token ids, or a list of either: not a mixture.", "invalid_type")
    if kind is int:
        return (_tokens(field, prompt),)
    if kind is str:
        return tuple([TextPrompt(each) for each in prompt if isinstance(each, str)])
    return tuple([_tokens(f"{field}[{index}]", each) for index, each in enumerate(prompt) if isinstance(each, list)])


def _tokens(where: str, ids: list[Any]) -> TokenPrompt:
    if not ids:
        raise BadField(where, f"'{where}' must hold at least one token id.")
    if min(ids) < 0 or max(ids) >= 2**31:
        raise BadField(where, f"'{where}' holds a number that is no token id.")
    return TokenPrompt(tuple(ids))
