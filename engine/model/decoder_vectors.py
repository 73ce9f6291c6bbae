"""A decoder that makes vectors instead of text: embeddings of its last layer, or scores of labels or of two answers."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from config.model.rerank import RerankSettings
from engine.errors import ModelError
from engine.model.config_reader import architecture_of, read_config
from engine.model.model_config import BASE_MODELS, SEQUENCE_CLASSIFIERS
from engine.model.sentence_modules import Sentence, TokenPair, has_module, read_sentence
from engine.model.vectors import EmbeddingSizes, ScoreActivation, VectorReader
from engine.text.pair_template import PairTemplate
from engine.text.tokenizer import Tokenizer

_ANSWERS_KEY = "classifier_from_token"
_RELEVANT = ("relevant",)
"""The label of a score that is made of two answers."""


class DecoderVectors(msgspec.Struct, frozen=True, kw_only=True):
    """How the rows of a decoder's last layer [tokens, hidden] become one vector."""

    sentence: Sentence
    sizes: EmbeddingSizes
    labelled: bool = False
    """The model has a head of its own, which makes logits of labels of the last row."""
    judged_by: TokenPair | None = None
    """The score is made of these tokens' logits after the last row."""
    scored_by: ScoreActivation | None = None
    """What makes scores of logits; None: the vector is an embedding."""
    pair: PairTemplate | None = None
    """How two texts become one prompt; None: as the tokenizer joins two texts."""


def read_decoder_vectors(
    directory: Path, rerank: RerankSettings | None, ignored: Collection[str] = ()
) -> DecoderVectors:
    """Of a decoder that `engine.model.vector_model.made_by` does not call a model of text.

    Raises ModelError: a file is malformed, does not say how a vector is made, or contradicts `rerank`.
    """
    path, raw = read_config(directory)
    return _Reader(path, raw, ignored).vectors(read_sentence(directory), rerank)


def judges(directory: Path, raw: dict[str, Any]) -> bool:
    """Whether the files of a causal model say that its answer is to be read as a score."""
    return raw.get(_ANSWERS_KEY) is not None or has_module(directory, "LogitScore")


class _Reader(VectorReader):
    def vectors(self, sentence: Sentence, rerank: RerankSettings | None) -> DecoderVectors:
        architecture = architecture_of(self._raw)
        pair = None if rerank is None else PairTemplate(rerank.template, rerank.instruction)
        if architecture in SEQUENCE_CLASSIFIERS:
            return self._classifier(sentence, rerank, pair)
        directory = self._path.parent
        if rerank is not None or judges(directory, self._raw):
            return self._judge(sentence, rerank, pair)
        if architecture in BASE_MODELS and not has_module(directory, "Pooling"):
            raise ModelError(
                "model_files",
                f"{directory} does not say how a text's tokens become one embedding: it needs modules.json with "
                "a Pooling module, as sentence-transformers writes it",
            )
        hidden = self.whole("hidden_size")
        return DecoderVectors(sentence=sentence, sizes=EmbeddingSizes(hidden, self.shorter_sizes(hidden)))

    def _classifier(
        self, sentence: Sentence, rerank: RerankSettings | None, pair: PairTemplate | None
    ) -> DecoderVectors:
        if rerank is not None and (rerank.yes is not None or rerank.no is not None):
            raise ModelError(
                "engine_settings",
                f"{self._path.parent} has a head of its own, which makes its scores: remove yes and no from rerank",
            )
        labels = self.labels()
        return DecoderVectors(
            sentence=sentence,
            sizes=EmbeddingSizes(len(labels), labels=labels),
            labelled=True,
            scored_by=self.score_activation(len(labels)),
            pair=pair,
        )

    def _judge(self, sentence: Sentence, rerank: RerankSettings | None, pair: PairTemplate | None) -> DecoderVectors:
        rerank = rerank or self._defaults()
        return DecoderVectors(
            sentence=sentence,
            sizes=EmbeddingSizes(1, labels=_RELEVANT),
            judged_by=self._tokens(sentence, rerank),
            scored_by="sigmoid",
            pair=pair or PairTemplate(rerank.template, sentence.prompt(None) or rerank.instruction),
        )

    def _defaults(self) -> RerankSettings:
        """Of a model whose files say that it judges, but not how it is asked."""
        if not architecture_of(self._raw).startswith("Qwen3"):
            raise ModelError(
                "engine_settings",
                f"{self._path.parent} reads its answer as a score, but its files do not say how it is asked: add "
                "rerank with a template to the engine's table",
            )
        return RerankSettings()

    def _tokens(self, sentence: Sentence, rerank: RerankSettings) -> TokenPair:
        stated = self._raw.get(_ANSWERS_KEY)
        if stated is not None and not (
            isinstance(stated, list) and len(stated) == 2 and all(isinstance(word, str) for word in stated)
        ):
            raise self.bad(_ANSWERS_KEY, 'expected two words, the second for a good answer: ["no", "yes"]')
        if rerank.yes is None and rerank.no is None and stated is None and sentence.judged_by is not None:
            return sentence.judged_by
        no, yes = stated or ("no", "yes")
        tokenizer = Tokenizer.load(self._path.parent, spells=False)
        return TokenPair(self._token(tokenizer, rerank.yes or yes), self._token(tokenizer, rerank.no or no))

    def _token(self, tokenizer: Tokenizer, word: str) -> int:
        ids = tokenizer.encode(word, add_special_tokens=False)
        if len(ids) != 1:
            raise ModelError(
                "engine_settings",
                f"{self._path.parent}: the answer {word!r} is {len(ids)} tokens, and a score compares single ones: "
                "choose other words for yes and no",
            )
        return ids[0]
