"""A model's tokenizer: text to token ids, token ids to bytes, end tokens."""

import json
from codecs import getincrementaldecoder
from collections.abc import Container, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import tokenizers

from engine.errors import ModelError, RequestRefused
from engine.text.continuation_encoder import ContinuationEncoder
from engine.text.reasoning import MARKER_TEXTS
from engine.text.token_bytes import SpellToken, TokenSpelling

CALL_TAGS = ("<tool_call>", "</tool_call>")
"""Tags of a tool call."""
_PARSED = frozenset({*CALL_TAGS, *MARKER_TEXTS})
"""Some models mark these as special, but the output cannot be parsed without them."""
LONG_CHARACTERS = 8_000
"""From this length on encoding is slow enough that it must release the GIL."""
_Utf8Decoder = getincrementaldecoder("utf-8")


class Detokenizer:
    """Text of one sequence's output.

    Decodes the tokens' bytes rather than strings: a character is emitted with its last byte, invalid bytes become
    U+FFFD at once, and the cost per token is constant. (`DecodeStream` of the tokenizers library holds back everything
    that ends in U+FFFD and decodes it again with each token, cannot be flushed, and strips a first space even after a
    prompt.)
    """

    def __init__(self, spell: SpellToken, special: Container[int], *, strip_first_space: bool) -> None:
        """Tokens in `special` have no text. `strip_first_space`: the output starts the text, see `TokenSpelling`."""
        self._spell = spell
        self._special = special
        self._strip = strip_first_space
        self._decoder = _Utf8Decoder("replace")

    def push(self, token_id: int) -> str:
        """The characters that this token completes; empty if it ends within a character."""
        if token_id in self._special:
            return ""
        spelled = self._spell(token_id)
        if self._strip and spelled:
            self._strip = False
            spelled = spelled.removeprefix(b" ")
        return self._decoder.decode(spelled)

    def flush(self) -> str:
        """End the output: U+FFFD if it ended within a character."""
        return self._decoder.decode(b"", final=True)


class Tokenizer:
    """tokenizer.json through the tokenizers library. Thread-safe."""

    def __init__(self, inner: tokenizers.Tokenizer, eos_ids: frozenset[int], *, spells: bool = True) -> None:
        """Truncation and padding set in the file are disabled, so that no prompt is cut silently.

        `spells` False: for models that generate no text, whose decoder is not needed and may be unsupported.
        """
        inner.no_truncation()
        inner.no_padding()
        self._inner = inner
        # The pickled state is this part of tokenizer.json; serializing the whole tokenizer would be slow.
        decoder = inner.decoder and json.loads(inner.decoder.__getstate__())
        self._spelling = TokenSpelling(decoder if spells else {"type": "Sequence", "decoders": []})
        added = inner.get_added_tokens_decoder()
        self._added = {token_id: token.content for token_id, token in added.items()}
        self.added_texts = frozenset(self._added.values())
        self._bytes: dict[int, bytes] = {}
        special = {token_id: token.content for token_id, token in added.items() if token.special}
        self.special_texts = tuple(special.values())
        self.special_ids = frozenset(token_id for token_id, text in special.items() if text not in _PARSED)
        """Special tokens, which have no text in an answer."""
        self.eos_ids = eos_ids
        self.vocab_size: int = inner.get_vocab_size()
        self._inside = ContinuationEncoder(
            partial(self.encode, add_special_tokens=False),
            self.token_bytes,
            self.special_ids,
            lambda: [token_id for token_id in range(self.vocab_size) if token_id not in self.special_ids],
        )

    @classmethod
    def load(cls, directory: Path, *, spells: bool = True) -> "Tokenizer":
        """Read tokenizer.json, and the end tokens from the files beside it; `spells` as in the constructor.

        Raises ModelError: there is no tokenizer.json, or a file is malformed.
        """
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise ModelError(
                "tokenizer_missing",
                f"{path} does not exist; convert the model's tokenizer, e.g. with transformers' "
                "AutoTokenizer.from_pretrained(...).save_pretrained(...)",
            )
        try:
            inner = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ModelError("tokenizer_unreadable", f"{path} is not a tokenizer.json: {error}") from error
        return cls(inner, _eos_ids(directory, inner), spells=spells)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`; with `add_special_tokens` including those around it (BOS)."""
        if len(text) < LONG_CHARACTERS:
            ids: list[int] = self._inner.encode(text, add_special_tokens=add_special_tokens).ids
            return ids
        # Only encode_batch_fast releases the GIL: 500,000 characters block other threads for 0.03 s instead of 1 s.
        encoded = self._inner.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return list(encoded[0].ids)

    def encode_pair(self, first: str, second: str) -> tuple[list[int], int | None]:
        """Token ids of two texts by the tokenizer's template for pairs, and where its token type 1 begins.

        None: all tokens are of one type.
        """
        if len(first) + len(second) < LONG_CHARACTERS:
            encoded = self._inner.encode(first, second)
        else:
            (encoded,) = self._inner.encode_batch_fast([(first, second)])
        types = encoded.type_ids
        return list(encoded.ids), types.index(1) if 1 in types else None

    def beginning(self, text: str, tokens: int) -> str:
        """The part of `text` that its first `tokens` tokens spell."""
        offsets = self._inner.encode(text, add_special_tokens=False).offsets
        return text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]]

    def encode_continuation(self, text: str, *, marked: bool = False) -> list[int]:
        """Token ids of `text` that continues another text, without a space added before it.

        They spell it byte for byte and contain no special token; `marked`: special tokens in the text are encoded as
        such.
        """
        return self._inside.encode_marked(text) if marked else self._inside.encode(text)

    def token_bytes(self, token_id: int) -> bytes:
        """The token's bytes, for a special token those of its name; empty for an id without a token."""
        spelled = self._bytes.get(token_id)
        if spelled is None:
            spelled = self._bytes[token_id] = self._spell(token_id)
        return spelled

    @cached_property
    def longest_token_bytes(self) -> int:
        """Length of the longest token in bytes; the first call scans the vocabulary."""
        return max((len(self._spell(token_id)) for token_id in range(self.vocab_size)), default=1)

    def _spell(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode()
        token: str | None = self._inner.id_to_token(token_id)
        return b"" if token is None else self._spelling.spell(token)

    def detokenizer(self, prompt: Sequence[int], *, skip_special: bool = True, exact: bool = False) -> Detokenizer:
        """A detokenizer for the output after `prompt`; `exact`: never strip a first space."""
        strips = self._spelling.strips_first_space and not exact
        strip = strips and all(token_id in self.special_ids for token_id in prompt)
        return Detokenizer(self.token_bytes, self.special_ids if skip_special else (), strip_first_space=strip)

    def spellings(self, token_ids: Sequence[int]) -> list[str]:
        """Each token as the vocabulary writes it ("Ġthe", "##ing"). Raises RequestRefused: there is no such token."""
        written: list[str | None] = [self._inner.id_to_token(token_id) for token_id in token_ids]
        if None in written:
            raise RequestRefused(
                "token_out_of_vocabulary", f"This model's vocabulary has no token {token_ids[written.index(None)]}."
            )
        return [each for each in written if each is not None]

    def whole_text(self, token_ids: Sequence[int]) -> str:
        """The text of tokens as a whole, special ones included; also for models that generate none.

        Raises RequestRefused as `spellings` does.
        """
        self.spellings(token_ids)
        return str(self._inner.decode(token_ids, skip_special_tokens=False))

    def decode(self, token_ids: Sequence[int]) -> str:
        detokenizer = self.detokenizer(())
        return "".join(map(detokenizer.push, token_ids)) + detokenizer.flush()


def _eos_ids(directory: Path, inner: tokenizers.Tokenizer) -> frozenset[int]:
    """All ids that any of the files names as end token, since fine-tuned models often change only one of them."""
    ids: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        eos = read_json(directory / name).get("eos_token_id")
        listed = eos if isinstance(eos, list) else [] if eos is None else [eos]
        if not all(type(token_id) is int and token_id >= 0 for token_id in listed):
            raise ModelError("tokenizer_eos", f"{directory / name}: eos_token_id must be an id or a list of ids")
        ids.update(listed)
    token = special_token(read_json(directory / "tokenizer_config.json").get("eos_token"))
    if token and (token_id := inner.token_to_id(token)) is not None:
        ids.add(token_id)
    return frozenset(ids)


def special_token(value: Any) -> str:
    """A special token in tokenizer_config.json: its text, or an object with `content`; "" otherwise."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else ""


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; an empty one if the file does not exist. Raises ModelError if it is malformed."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError("model_files", f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelError("model_files", f"{path} must hold a JSON object")
    return value
