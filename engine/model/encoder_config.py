"""What a model directory says about an encoder: its shape, and how one vector is made of a text.

The transformer is described by `config.json`; what follows it by the files of sentence-transformers, `modules.json`,
`sentence_bert_config.json` and the pooling's own `config.json`.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import msgspec

from engine.errors import ModelError
from engine.model.config_keys import check_keys
from engine.model.config_reader import ConfigReader, architecture_of, read_config
from engine.model.sentence_modules import Sentence, read_sentence
from engine.text.tokenizer import read_json

EncoderActivation = Literal["gelu", "gelu_tanh", "relu"]

ENCODERS = {
    "BertModel": "bert",
    "BertForMaskedLM": "bert",
    "RobertaModel": "roberta",
    "RobertaForMaskedLM": "roberta",
    "XLMRobertaModel": "roberta",
    "XLMRobertaForMaskedLM": "roberta",
}
"""Names in `architectures`, and the family that they belong to."""
_ACTIVATIONS: dict[object, EncoderActivation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


class EmbeddingSizes(msgspec.Struct, frozen=True):
    """How long an embedding of a model is, and may be."""

    whole: int
    shorter: tuple[int, ...] | None = ()
    """Sizes that it may be cut to, by Matryoshka training; None: any."""

    def allows(self, size: int) -> bool:
        """Whether an embedding of this size means something."""
        return size == self.whole or (0 < size < self.whole and (self.shorter is None or size in self.shorter))


class EncoderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An encoder after "BERT: Pre-training of Deep Bidirectional Transformers", and what is made of its last layer."""

    prefix: str
    """May stand in front of every tensor's name, where the file was saved with another head."""
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    norm_eps: float
    activation: EncoderActivation
    positions: int
    """Rows of the table of positions."""
    pad_token: int | None
    """RoBERTa counts positions from this id on, and skips the token itself; None: from 0."""
    token_types: int
    max_tokens: int
    """The longest input: what the positions leave, or less if the model was made for less."""
    most_tokens: int
    """What the positions leave."""
    sentence: Sentence
    sizes: EmbeddingSizes


def is_encoder(directory: Path) -> bool:
    """Whether `directory` holds a model that makes embeddings. Raises ModelError if its config.json is unreadable."""
    return architecture_of(read_json(directory / "config.json")) in ENCODERS


def read_encoder_config(directory: Path, ignored: Collection[str] | None = ()) -> EncoderConfig:
    """Read the files; `ignored` as `read_model_config` has it.

    Raises:
        ModelError: one is missing, unreadable, incomplete, or asks for something that the engine does not do.
    """
    path, raw = read_config(directory)
    return _Reader(path, raw, ignored or ()).config(read_sentence(directory), checked=ignored is not None)


class _Reader(ConfigReader):
    def config(self, sentence: Sentence, *, checked: bool) -> EncoderConfig:
        architecture = architecture_of(self._raw)
        if architecture not in ENCODERS:
            supported = ", ".join(sorted(ENCODERS))
            raise ModelError(
                "model_unsupported",
                f"{self._path}: architecture {architecture} is not supported; supported encoders are {supported}",
            )
        family = ENCODERS[architecture]
        if checked:
            check_keys(self._path, self._raw, family, self._ignored)
        heads, hidden, inner = self._int("num_attention_heads"), self._int("hidden_size"), self._inner()
        if hidden % heads:
            raise self._bad("num_attention_heads", f"{heads} heads cannot share {hidden} evenly")
        if self._bool("is_decoder", default=False):
            raise self._unsupported("is_decoder", True, "an encoder's tokens see each other")
        positions = self._int("max_position_embeddings")
        pad_token = self._pad_token() if family == "roberta" else None
        most = positions if pad_token is None else positions - pad_token - 1
        return EncoderConfig(
            prefix=f"{family}.",
            vocab_size=self._int("vocab_size"),
            hidden_size=hidden,
            intermediate_size=inner,
            layers=self._int("num_hidden_layers"),
            heads=heads,
            norm_eps=self._float("layer_norm_eps", 1e-12),
            activation=self._activation(),
            positions=positions,
            pad_token=pad_token,
            token_types=self._int("type_vocab_size", 2),
            max_tokens=min(most, sentence.max_tokens or most),
            most_tokens=most,
            sentence=sentence,
            sizes=EmbeddingSizes(hidden, self._shorter(hidden)),
        )

    def _inner(self) -> int:
        kind = self._raw.get("position_embedding_type") or "absolute"
        if kind != "absolute":
            raise self._unsupported("position_embedding_type", kind, "only absolute is")
        return self._int("intermediate_size")

    def _pad_token(self) -> int:
        value = self._raw.get("pad_token_id", 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._bad("pad_token_id", f"expected a token id, found {value!r}")
        return value

    def _activation(self) -> EncoderActivation:
        name = self._raw.get("hidden_act", "gelu")
        if name not in _ACTIVATIONS:
            raise self._unsupported("hidden_act", name, f"only {', '.join(map(str, _ACTIVATIONS))} are")
        return _ACTIVATIONS[name]

    def _shorter(self, hidden: int) -> tuple[int, ...] | None:
        """As vLLM reads it: a list of sizes, or a word that any will do ("Matryoshka Representation Learning")."""
        sizes = self._raw.get("matryoshka_dimensions")
        if sizes is None:
            return None if self._bool("is_matryoshka", default=False) else ()
        if not isinstance(sizes, list) or not all(type(size) is int and 0 < size <= hidden for size in sizes):
            raise self._bad("matryoshka_dimensions", f"expected a list of sizes up to {hidden}")
        return tuple(sorted(size for size in sizes if size < hidden))
