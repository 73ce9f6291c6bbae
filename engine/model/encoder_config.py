"""Configuration of an encoder model, and how its last layer becomes one embedding vector.

The transformer is described by `config.json`, pooling and normalization by the files of sentence-transformers:
`modules.json`, `sentence_bert_config.json` and the pooling module's `config.json`.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import msgspec

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
"""Model family by the name in `architectures`, of models that make embeddings."""
CLASSIFIERS = {
    "BertForSequenceClassification": "bert",
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


class EmbeddingSizes(msgspec.Struct, frozen=True):
    """What the numbers are that a model makes of an input: how many, and of what."""

    whole: int
    shorter: tuple[int, ...] | None = ()
    """Sizes to which the vector may be truncated (Matryoshka training); None: any."""
    labels: tuple[str, ...] = ()
    """The numbers are scores of these labels; (): they are an embedding."""

    def allows(self, size: int) -> bool:
        return size == self.whole or (0 < size < self.whole and (self.shorter is None or size in self.shorter))


Activation = Literal["identity", "sigmoid", "softmax"]
_SENTENCE_ACTIVATIONS: dict[object, Activation] = {
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
}
_PROBLEMS: dict[object, Activation] = {
    "regression": "identity",
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
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
    scored_by: Activation | None = None
    """What makes scores of a classifier's last numbers; None: the model makes embeddings."""

    @property
    def tells_texts_apart(self) -> bool:
        """The tokens of a second text are of another type than those of the first."""
        return self.scored_by is not None and self.token_types > 1


def is_encoder(directory: Path) -> bool:
    """Whether `directory` holds an encoder or a classifier. Raises ModelError if its config.json is unreadable."""
    return architecture_of(read_json(directory / "config.json")) in _KNOWN


def is_classifier(directory: Path) -> bool:
    """Whether `directory` holds a model that makes scores. Raises ModelError as `is_encoder` does."""
    return architecture_of(read_json(directory / "config.json")) in CLASSIFIERS


def read_encoder_config(directory: Path, ignored: Collection[str] | None = ()) -> EncoderConfig:
    """Read the files; `ignored` and errors as in `read_model_config`."""
    path, raw = read_config(directory)
    return _Reader(path, raw, ignored or ()).config(read_sentence(directory), checked=ignored is not None)


class _Reader(ConfigReader):
    def config(self, sentence: Sentence, *, checked: bool) -> EncoderConfig:
        family = self.family(_KNOWN, "supported encoders", checked=checked)
        labels = self._labels() if architecture_of(self._raw) in CLASSIFIERS else ()
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
            else EmbeddingSizes(hidden, self._shorter(hidden)),
            scored_by=self._activation(len(labels)) if labels else None,
        )

    def _labels(self) -> tuple[str, ...]:
        """As transformers reads them: `id2label`, else so many as `num_labels` says, else two."""
        names = self._raw.get("id2label")
        if names is None:
            return tuple([f"LABEL_{number}" for number in range(self.whole("num_labels", 2))])
        listed = [names.get(str(number)) for number in range(len(names))] if isinstance(names, dict) else []
        found = tuple([name for name in listed if isinstance(name, str)])
        if not found or len(found) != len(listed):
            raise self.bad("id2label", "expected a name for each number from 0 on")
        return found

    def _activation(self, labels: int) -> Activation:
        """As sentence-transformers' CrossEncoder and vLLM read it.

        The function that the files name, else the one of the training's problem, else by the number of labels.
        """
        section = self._raw.get("sentence_transformers")
        named = section.get("activation_fn") if isinstance(section, dict) else None
        key = "sbert_ce_default_activation_function"
        if named is not None:
            return self.chosen("sentence_transformers.activation_fn", named, _SENTENCE_ACTIVATIONS)
        if self._raw.get(key) is not None:
            return self.chosen(key, self._raw[key], _SENTENCE_ACTIVATIONS)
        problem = self._raw.get("problem_type")
        if problem is not None:
            return self.chosen("problem_type", problem, _PROBLEMS)
        return "sigmoid" if labels == 1 else "softmax"

    def _pad_token(self) -> int:
        value = self._raw.get("pad_token_id", 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.bad("pad_token_id", f"expected a token id, found {value!r}")
        return value

    def _shorter(self, hidden: int) -> tuple[int, ...] | None:
        """As in vLLM: a list of sizes, or a flag that allows any (Kusupati, "Matryoshka Representation Learning")."""
        sizes = self._raw.get("matryoshka_dimensions")
        if sizes is None:
            return None if self.flag("is_matryoshka", default=False) else ()
        if not isinstance(sizes, list) or not all(type(size) is int and 0 < size <= hidden for size in sizes):
            raise self.bad("matryoshka_dimensions", f"expected a list of sizes up to {hidden}")
        return tuple(sorted(size for size in sizes if size < hidden))
