"""Log-probabilities as the two endpoints write them, of answers and of prompts."""

import math
from codecs import getincrementaldecoder
from collections.abc import Sequence
from typing import Any

from actors.api.request import View
from engine.core.messages import TokenLogprobs
from gateway.openai.json_text import encode

_FLOOR = -9999.0
"""What the OpenAI API says for a token that is practically impossible; JSON has no infinity."""
_Utf8Decoder = getincrementaldecoder("utf-8")


def _token(token_bytes: bytes) -> str:
    return token_bytes.decode("utf-8", "replace")


def _value(logprob: float) -> float | None:
    """None for a token that stands before any other."""
    return None if math.isnan(logprob) else max(logprob, _FLOOR)


def chat_logprobs(positions: Sequence[TokenLogprobs]) -> list[dict[str, Any]]:
    """The `content` list of a chat choice; together its tokens are the content, so special ones are left out."""
    return [
        {
            "token": _token(each.token_bytes),
            "logprob": _value(each.logprob),
            "bytes": list(each.token_bytes),
            "top_logprobs": [
                {"token": _token(raw), "logprob": _value(logprob), "bytes": list(raw)} for _, logprob, raw in each.top
            ],
        }
        for each in positions
        if not each.special
    ]


def prompt_logprobs(positions: Sequence[TokenLogprobs], count: int) -> list[dict[str, Any] | None]:
    """VLLM's `prompt_logprobs`: for each token of the prompt, by token id, itself and the `count` best; first null."""
    return [_ranked(each, count) for each in positions]


def prompt_logprobs_field(view: View, positions: tuple[TokenLogprobs, ...]) -> bytes:
    """`,"prompt_logprobs":…`, or nothing if nobody wants it, or it is not known."""
    if view.prompt_logprobs is None or not positions:
        return b""
    return b',"prompt_logprobs":%b' % encode(prompt_logprobs(positions, view.prompt_logprobs))


def _ranked(position: TokenLogprobs, count: int) -> dict[str, Any] | None:
    if math.isnan(position.logprob):
        return None
    own = (position.token_id, position.logprob, position.token_bytes)
    ranked = [(position.rank, own), *enumerate(position.top[:count], 1)]
    return {
        str(token_id): {"logprob": _value(logprob), "rank": rank, "decoded_token": _token(raw)}
        for rank, (token_id, logprob, raw) in reversed(ranked)
    }


class CompletionLogprobs:
    """The `logprobs` objects of one text choice, whose offsets go on from piece to piece."""

    def __init__(self, text: str = "") -> None:
        """`text`: how the choice begins, if that is known: the first token may have a space that the text has not."""
        self._offset = 0
        self._decoder = _Utf8Decoder("replace")
        self._spaceless = bool(text) and not text.startswith(" ")

    def fields(self, positions: Sequence[TokenLogprobs], count: int) -> dict[str, Any]:
        """Of the next tokens of the choice; beside each the `count` best and, as in the OpenAI API, itself."""
        return {
            "text_offset": [self._take(each) for each in positions],
            "token_logprobs": [_value(each.logprob) for each in positions],
            "tokens": [_token(each.token_bytes) for each in positions],
            "top_logprobs": [_best(each, count) for each in positions],
        }

    def _take(self, position: TokenLogprobs) -> int:
        """Where in the text the token begins: where its first whole character does."""
        at = self._offset
        if not position.special:
            raw = position.token_bytes
            if self._spaceless and raw:
                raw, self._spaceless = raw.removeprefix(b" "), False
            self._offset += len(self._decoder.decode(raw))
        return at


def _best(position: TokenLogprobs, count: int) -> dict[str, float | None] | None:
    """Several tokens can look alike (parts of characters do): the likeliest of them counts."""
    if math.isnan(position.logprob):
        return None
    best: dict[str, float | None] = {}
    for _, logprob, raw in position.top[:count]:
        best.setdefault(_token(raw), _value(logprob))
    best.setdefault(_token(position.token_bytes), _value(position.logprob))
    return best
