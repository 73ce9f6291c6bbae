"""Configuration of an encoder model, and how its last layer becomes one embedding vector.

The transformer is described by `config.json`, pooling and normalization by the files of sentence-transformers:
`modules.json`, `sentence_bert_config.json` and the pooling module's `config.json`.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import msgspec

from engine.model.config_reader import architecture_of, read_config
from engine.model.modern_config import ModernConfig, read_modern_config
from engine.model.sentence_modules import Sentence, read_sentence
from engine.model.vectors import EmbeddingSizes, ScoreActivation, VectorReader

EncoderActivation = Literal["gelu", "gelu_tanh", "relu"]

ENCODERS = {
    "BertModel": "bert",
    "BertForMaskedLM": "bert",
    "ModernBertModel": "modernbert",
    "ModernBertForMaskedLM": "modernbert",
    "RobertaModel": "roberta",
    "RobertaForMaskedLM": "roberta",
    "XLMRobertaModel": "roberta",
    "XLMRobertaForMaskedLM": "roberta",
}
"""Model family by the name in `architectures`, of models that make embeddings."""
CLASSIFIERS = {
    "BertForSequenceClassification": "bert",
    "ModernBertForSequenceClassification": "modernbert",
    "RobertaForSequenceClassification": "roberta",
    "XLMRobertaForSequenceClassification": "roberta",
}
"""The same, of models that score a text, or a pair of texts, by labels."""
_KNOWN = {**ENCODERS, **CLASSIFIERS}
_ACTIVATIONS: dict[object, EncoderActivation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


class EncoderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An encoder as in Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", with its pooling."""

    prefix: str
    """Prefix of all tensor names in files that were saved with a task head."""
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    norm_eps: float
    activation: EncoderActivation
    positions: int
    """Rows of the position embedding table."""
    pad_token: int | None
    """RoBERTa numbers positions from this id + 1, and gives padding tokens this id; None: from 0."""
    token_types: int
    max_tokens: int
    """The longest input: `usable_positions`, or less if the files of sentence-transformers limit it."""
    usable_positions: int
    """Positions that an input can use."""
    sentence: Sentence
    sizes: EmbeddingSizes
    scored_by: ScoreActivation | None = None
    """What makes scores of a classifier's last numbers; None: the model makes embeddings."""

    @property
    def tells_texts_apart(self) -> bool:
        """The tokens of a second text are of another type than those of the first."""
        return self.scored_by is not None and self.token_types > 1


def read_encoder_config(directory: Path, ignored: Collection[str] | None = ()) -> EncoderConfig | ModernConfig:
    """Read the files; `ignored` and errors as in `read_model_config`."""
    path, raw = read_config(directory)
    sentence, classifies = read_sentence(directory), architecture_of(raw) in CLASSIFIERS
    reader = _Reader(path, raw, ignored or ())
    family = reader.family(_KNOWN, "supported encoders", checked=ignored is not None)
    if family == "modernbert":
        return read_modern_config(path, raw, ignored or (), sentence, classifies=classifies)
    return reader.config(family, sentence, classifies=classifies)


class _Reader(VectorReader):
    def config(self, family: str, sentence: Sentence, *, classifies: bool) -> EncoderConfig:
        labels = self.labels() if classifies else ()
        kind = self._raw.get("position_embedding_type") or "absolute"
        if kind != "absolute":
            raise self.unsupported("position_embedding_type", kind, "only absolute is")
        heads, hidden = self.whole("num_attention_heads"), self.whole("hidden_size")
        if hidden % heads:
            raise self.bad("num_attention_heads", f"{heads} heads cannot share {hidden} evenly")
        if self.flag("is_decoder", default=False):
            raise self.unsupported("is_decoder", True, "an encoder's tokens see each other")
        positions = self.whole("max_position_embeddings")
        pad_token = self._pad_token() if family == "roberta" else None
        usable = positions if pad_token is None else positions - pad_token - 1
        return EncoderConfig(
            prefix=f"{family}.",
            vocab_size=self.whole("vocab_size"),
            hidden_size=hidden,
            intermediate_size=self.whole("intermediate_size"),
            layers=self.whole("num_hidden_layers"),
            heads=heads,
            norm_eps=self.number("layer_norm_eps", 1e-12),
            activation=self.chosen("hidden_act", self._raw.get("hidden_act", "gelu"), _ACTIVATIONS),
            positions=positions,
            pad_token=pad_token,
            token_types=self.whole("type_vocab_size", 2),
            max_tokens=min(usable, sentence.max_tokens or usable),
            usable_positions=usable,
            sentence=sentence,
            sizes=EmbeddingSizes(len(labels), labels=labels)
            if labels
            else EmbeddingSizes(hidden, self.shorter_sizes(hidden)),
            scored_by=self.score_activation(len(labels)) if labels else None,
        )

    def _pad_token(self) -> int:
        value = self._raw.get("pad_token_id", 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.bad("pad_token_id", f"expected a token id, found {value!r}")
        return value
