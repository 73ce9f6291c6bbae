"""Log-probabilities as the two endpoints write them."""

from collections.abc import Sequence
from typing import Any

from engine.messages import TokenLogprobs

_FLOOR = -9999.0
"""What the OpenAI API says for a token that is practically impossible; JSON has no infinity."""


def _token(token_bytes: bytes) -> str:
    return token_bytes.decode("utf-8", "replace")


def chat_logprobs(positions: Sequence[TokenLogprobs]) -> list[dict[str, Any]]:
    """The `content` list of a chat choice; together its tokens are the content, so special ones are left out."""
    return [
        {
            "token": _token(each.token_bytes),
            "logprob": max(each.logprob, _FLOOR),
            "bytes": list(each.token_bytes),
            "top_logprobs": [
                {"token": _token(raw), "logprob": max(logprob, _FLOOR), "bytes": list(raw)}
                for _, logprob, raw in each.top
            ],
        }
        for each in positions
        if not each.special
    ]


def completion_logprobs(positions: Sequence[TokenLogprobs], offset: int) -> tuple[dict[str, Any], int]:
    """The `logprobs` object of a text choice, and the text offset after it."""
    tokens = [_token(each.token_bytes) for each in positions]
    offsets = []
    for token, each in zip(tokens, positions, strict=True):
        offsets.append(offset)
        if not each.special:
            offset += len(token)
    fields = {
        "text_offset": offsets,
        "token_logprobs": [max(each.logprob, _FLOOR) for each in positions],
        "tokens": tokens,
        "top_logprobs": [{_token(raw): max(logprob, _FLOOR) for _, logprob, raw in each.top} for each in positions],
    }
    return fields, offset
