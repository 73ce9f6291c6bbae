"""Tokenization of text that continues another text.

Many tokenizers (Llama 2, Mistral 7B, Mixtral, Phi-3, T5) put a space before the text they encode. Within an answer this
space would be wrong. So the text is encoded after a sentinel, whose tokens are removed.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property

from engine.text.token_bytes import SpellToken

Encode = Callable[[str], list[int]]

_SENTINELS = ("", "\x02", "a", "0", "(", ".", "\n", "я", "中")
"""Sentinel texts. At least one does not merge with the following text and is not changed by normalization."""
_SAMPLES = ("a", "b", "0", "<", '"', " a")


class ContinuationEncoder:
    """Encoder for one tokenizer. Thread-safe."""

    def __init__(
        self, encode: Encode, spell: SpellToken, special: Collection[int], vocabulary: Callable[[], Sequence[int]]
    ) -> None:
        """`special`: ids without text. `vocabulary`: all other ids."""
        self._encode = encode
        self._spell = spell
        self._special = special
        self._vocabulary = vocabulary

    def encode(self, text: str) -> list[int]:
        """Token ids that spell `text` byte for byte, without special tokens.

        Usually the tokenizer's own encoding. Text that the vocabulary cannot spell is encoded as the tokenizer does.
        """
        wanted = text.encode("utf-8", "replace")
        for sentinel in (self._sentinel, *_SENTINELS):
            ids = self._after_sentinel(sentinel, text)
            if ids is not None and self._spelled(ids) == wanted and not any(i in self._special for i in ids):
                return ids
        greedy = self._greedily(wanted)
        return self._encode(text) if greedy is None else greedy

    def encode_marked(self, text: str) -> list[int]:
        """The same, with special tokens in the text encoded as such."""
        ids = self._after_sentinel(self._sentinel, text)
        return self._encode(text) if ids is None else ids

    @cached_property
    def _sentinel(self) -> str:
        """The sentinel that usually works; "" if this tokenizer adds no space."""

        def serves(sentinel: str) -> bool:
            encoded = [(sample, self._after_sentinel(sentinel, sample)) for sample in _SAMPLES]
            return all(ids is not None and self._spelled(ids) == sample.encode() for sample, ids in encoded)

        return next(filter(serves, _SENTINELS), "")

    def _after_sentinel(self, sentinel: str, text: str) -> list[int] | None:
        """The ids of `text` after the sentinel; None: they merged."""
        if not sentinel:
            return self._encode(text)
        head, whole = self._encode(sentinel), self._encode(sentinel + text)
        return whole[len(head) :] if whole[: len(head)] == head else None

    def _spelled(self, ids: Sequence[int]) -> bytes:
        return b"".join(map(self._spell, ids))

    def _greedily(self, wanted: bytes) -> list[int] | None:
        """Encode by the longest matching token at each position; None: no token matches."""
        ids, at = [], 0
        while at < len(wanted):
            for size in range(min(self._longest, len(wanted) - at), 0, -1):
                if (token_id := self._by_bytes.get(wanted[at : at + size])) is not None:
                    ids.append(token_id)
                    at += size
                    break
            else:
                return None
        return ids

    @cached_property
    def _by_bytes(self) -> Mapping[bytes, int]:
        ids: dict[bytes, int] = {}
        for token_id in self._vocabulary():
            ids.setdefault(self._spell(token_id), token_id)
        return ids

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._by_bytes), default=0)
