"""Log-probabilities of answers and prompts, in the formats of the two endpoints."""

import math
from codecs import getincrementaldecoder
from collections.abc import Sequence
from typing import Any

from actors.api.request import View
from engine.messages import TokenLogprobs
from gateway.openai.json_text import encode

_FLOOR = -9999.0
"""The OpenAI API's value for a practically impossible token; JSON has no infinity."""
_Utf8Decoder = getincrementaldecoder("utf-8")


def _token(token_bytes: bytes) -> str:
    return token_bytes.decode("utf-8", "replace")


def _value(logprob: float) -> float | None:
    """None for the first token of a prompt, which has none."""
    return None if math.isnan(logprob) else max(logprob, _FLOOR)


def chat_logprobs(positions: Sequence[TokenLogprobs]) -> list[dict[str, Any]]:
    """The `content` list of a chat choice. Special tokens are left out, so that its tokens together are the content."""
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
    """VLLM's `prompt_logprobs`: for each token, by token id, itself and the `count` best; null for the first."""
    return [_ranked(each, count) for each in positions]


def prompt_logprobs_field(view: View, positions: tuple[TokenLogprobs, ...]) -> bytes:
    """`,"prompt_logprobs":…`; b"" if it is not requested or not known."""
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
    """The `logprobs` objects of one text choice; offsets continue from chunk to chunk."""

    def __init__(self, text: str = "") -> None:
        """`text`: the beginning of the choice, if known: the first token may have a space that the text lacks."""
        self._offset = 0
        self._decoder = _Utf8Decoder("replace")
        self._spaceless = bool(text) and not text.startswith(" ")

    def fields(self, positions: Sequence[TokenLogprobs], count: int) -> dict[str, Any]:
        """The object for the choice's next tokens, each with the `count` best and, as in the OpenAI API, itself."""
        return {
            "text_offset": [self._take(each) for each in positions],
            "token_logprobs": [_value(each.logprob) for each in positions],
            "tokens": [_token(each.token_bytes) for each in positions],
            "top_logprobs": [_best(each, count) for each in positions],
        }

    def _take(self, position: TokenLogprobs) -> int:
        """The offset of the token's first complete character in the text."""
        at = self._offset
        if not position.special:
            raw = position.token_bytes
            if self._spaceless and raw:
                raw, self._spaceless = raw.removeprefix(b" "), False
            begun = self._decoder.getstate()[0]
            self._offset += len(self._decoder.decode(raw))
            # A character that another token has begun and this one does not continue is one U+FFFD, and not its own.
            at += bool(begun and raw and not _continues(begun, raw))
        return at


def _continues(begun: bytes, raw: bytes) -> bool:
    """Whether the first byte of `raw` belongs to the character whose first bytes are `begun`."""
    try:
        (begun + raw[:1]).decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and error.start == 0
    return True


def _best(position: TokenLogprobs, count: int) -> dict[str, float | None] | None:
    """The best by text. Several tokens can have the same text (partial characters): the likeliest counts."""
    if math.isnan(position.logprob):
        return None
    best: dict[str, float | None] = {}
    for _, logprob, raw in position.top[:count]:
        best.setdefault(_token(raw), _value(logprob))
    best.setdefault(_token(position.token_bytes), _value(position.logprob))
    return best
