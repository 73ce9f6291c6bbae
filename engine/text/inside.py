"""Token ids of a text that goes on in the middle of another one.

Many tokenizers write a space in front of whatever they are given (Llama 2, Mistral 7B, Mixtral, Phi-3, T5), because a
text begins with a word. In the middle of an answer that space would be one too many: so such a text is encoded behind
another one, whose tokens are cut off again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property

Encode = Callable[[str], list[int]]
SpellToken = Callable[[int], bytes]

_SENTINELS = ("", "\x02", "a", "0", "(", ".", "\n", "я", "中")
"""Texts to stand in front. One of them does not grow together with what follows, and loses nothing by normalization."""
_SAMPLES = ("a", "b", "0", "<", '"', " a")


class InsideEncoder:
    """For one tokenizer. Safe in several threads."""

    def __init__(
        self, encode: Encode, spell: SpellToken, special: Collection[int], vocabulary: Callable[[], Sequence[int]]
    ) -> None:
        """`special`: ids that stand for no text. `vocabulary`: all others."""
        self._encode = encode
        self._spell = spell
        self._special = special
        self._vocabulary = vocabulary

    def encode(self, text: str) -> list[int]:
        """Ids that spell `text`, byte for byte, and are not special, whatever it spells.

        Usually they are the tokenizer's own. What a vocabulary cannot spell becomes what its tokenizer makes of it.
        """
        wanted = text.encode("utf-8", "replace")
        for sentinel in (self._sentinel, *_SENTINELS):
            ids = self._behind(sentinel, text)
            if ids is not None and self._spelled(ids) == wanted and not any(each in self._special for each in ids):
                return ids
        greedy = self._greedily(wanted)
        return self._encode(text) if greedy is None else greedy

    def encode_marked(self, text: str) -> list[int]:
        """The same of a text in which the special tokens that it spells count."""
        ids = self._behind(self._sentinel, text)
        return self._encode(text) if ids is None else ids

    @cached_property
    def _sentinel(self) -> str:
        """What usually serves; "" if nothing is ever put in front."""

        def serves(sentinel: str) -> bool:
            found = [(sample, self._behind(sentinel, sample)) for sample in _SAMPLES]
            return all(ids is not None and self._spelled(ids) == sample.encode() for sample, ids in found)

        return next(filter(serves, _SENTINELS), "")

    def _behind(self, sentinel: str, text: str) -> list[int] | None:
        """None: they have grown together."""
        if not sentinel:
            return self._encode(text)
        head, whole = self._encode(sentinel), self._encode(sentinel + text)
        return whole[len(head) :] if whole[: len(head)] == head else None

    def _spelled(self, ids: Sequence[int]) -> bytes:
        return b"".join(map(self._spell, ids))

    def _greedily(self, wanted: bytes) -> list[int] | None:
        """The longest token each time; None: there is none."""
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
        found: dict[bytes, int] = {}
        for token_id in self._vocabulary():
            found.setdefault(self._spell(token_id), token_id)
        return found

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._by_bytes), default=0)
