"""Small tokenizers of the two kinds that models have, made on the spot."""

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
    """About 400 tokens; many multi-byte characters stay cut into bytes."""
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
    """In the manner of Llama 2: words begin with ▁, bytes as <0x..>, the first space of a text is not its own."""
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
