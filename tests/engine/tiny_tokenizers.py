"""Small tokenizers of all supported kinds, built on the fly."""

import json
from functools import cache

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from engine.text.tokenizer import Tokenizer

EOS = "<|end|>"
_TEXT = [
    "the quick brown fox jumps over the lazy dog, then the dog sleeps",
    "Zürich, naïve café, 東京 と 京都, мир и труд, 👩‍👩‍👧 family 👍🏽 thumbs 🎉🎉",
] * 20


@cache
def byte_level() -> tokenizers.Tokenizer:
    """About 400 tokens; many multi-byte characters stay split into bytes."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|bos|>", EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(_TEXT, trainer)
    inner.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return inner


@cache
def sentencepiece() -> tokenizers.Tokenizer:
    """As Llama 2: words begin with ▁, bytes are <0x..>, and the first space of a text is stripped."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = sorted({character for text in _TEXT[0:1] for character in text.replace(" ", "▁")})
    pieces += [*letters, "▁t", "he", "▁the"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he")]
    model = models.BPE(
        {piece: index for index, piece in enumerate(pieces)},
        merges,
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    inner = tokenizers.Tokenizer(model)
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.add_special_tokens(["<unk>", "<s>", "</s>"])
    return inner


def byte_level_tokenizer() -> Tokenizer:
    return Tokenizer(byte_level(), frozenset({byte_level().token_to_id(EOS)}))


def sentencepiece_tokenizer() -> Tokenizer:
    return Tokenizer(sentencepiece(), frozenset({sentencepiece().token_to_id("</s>")}))


_JSON = ['{"name": "Mia Berg", "age": 31, "tags": ["a b", "c"], "ok": true, "none": null, "x": -1.5e3}'] * 20
_ALPHABET = [chr(code) for code in range(0x21, 0x7F)]
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_CONTROLS = ["<unk>", "<s>", "</s>"]


def _bpe(*, byte_fallback: bool) -> models.BPE:
    """About 200 pieces with and without a leading ▁."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=260, initial_alphabet=["▁", *_ALPHABET], show_progress=False)
    inner.train_from_iterator([*_TEXT[:1], *_JSON], trainer)
    trained = json.loads(inner.to_str())["model"]
    pieces = [*_CONTROLS, *(_BYTES if byte_fallback else ()), *sorted(trained["vocab"], key=trained["vocab"].get)]
    merges = [tuple(merge) for merge in trained["merges"]]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=byte_fallback, fuse_unk=True)


def _unigram(*, byte_fallback: bool) -> models.Unigram:
    inner = tokenizers.Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=230, initial_alphabet=["▁", *_ALPHABET], unk_token="<unk>", special_tokens=_CONTROLS,
        show_progress=False,
    )  # fmt: skip
    inner.train_from_iterator([*_TEXT[:1], *_JSON], trainer)
    vocabulary = [(piece, score) for piece, score in json.loads(inner.to_str())["model"]["vocab"]]
    if byte_fallback:
        vocabulary += [(piece, -20.0) for piece in _BYTES]
    return models.Unigram(vocabulary, 0, byte_fallback)


_REPLACE = normalizers.Replace(" ", "▁")
_PREPEND = normalizers.Sequence([normalizers.Prepend("▁"), _REPLACE])
_XLM_R = normalizers.Sequence(
    [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
)


def _spelled(strip: int) -> decoders.Decoder:
    """As in converted SentencePiece models; `strip`: whether a text's first space is stripped."""
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strip else steps)


def _made(model, normalizer, pre_tokenizer, decoder, *added: AddedToken) -> Tokenizer:
    inner = tokenizers.Tokenizer(model)
    if normalizer is not None:
        inner.normalizer = normalizer
    if pre_tokenizer is not None:
        inner.pre_tokenizer = pre_tokenizer
    inner.decoder = decoder
    inner.add_special_tokens([token for token in _CONTROLS if inner.token_to_id(token) is not None])
    inner.add_tokens(list(added))
    end = "</s>" if inner.token_to_id("</s>") is not None else EOS
    return Tokenizer(inner, frozenset({inner.token_to_id(end)}))


def _byte_level_prefixed() -> Tokenizer:
    inner = tokenizers.Tokenizer.from_str(byte_level().to_str())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return Tokenizer(inner, frozenset({inner.token_to_id(EOS)}))


def _metaspace(scheme: str, model) -> Tokenizer:
    pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    return _made(model, None, pre_tokenizer, decoders.Metaspace(prepend_scheme=scheme))


_PHI3 = [AddedToken("<|end|>", special=True, rstrip=True), AddedToken("<|user|>", special=True, rstrip=True)]
KINDS = {
    "byte-level": byte_level_tokenizer,
    "byte-level-prefix-space": _byte_level_prefixed,
    "llama2-prepend": lambda: _made(_bpe(byte_fallback=True), _PREPEND, None, _spelled(1)),
    "llama2-metaspace-first": lambda: _made(
        _bpe(byte_fallback=True), None, pre_tokenizers.Metaspace(prepend_scheme="first"), _spelled(1)
    ),
    "phi3": lambda: _made(_bpe(byte_fallback=True), _PREPEND, None, _spelled(1), *_PHI3),
    "gemma": lambda: _made(_bpe(byte_fallback=True), _REPLACE, None, _spelled(0)),
    "metaspace-always": lambda: _metaspace("always", _bpe(byte_fallback=False)),
    "metaspace-first": lambda: _metaspace("first", _bpe(byte_fallback=False)),
    "metaspace-never": lambda: _metaspace("never", _bpe(byte_fallback=False)),
    "unigram": lambda: _metaspace("always", _unigram(byte_fallback=False)),
    "unigram-byte-fallback": lambda: _made(_unigram(byte_fallback=True), None, pre_tokenizers.Metaspace(), _spelled(1)),
    "unigram-xlm-r": lambda: _made(
        _unigram(byte_fallback=False), _XLM_R, pre_tokenizers.Metaspace(), decoders.Metaspace()
    ),
}
"""The kinds of tokenizers, by the models that use them."""
