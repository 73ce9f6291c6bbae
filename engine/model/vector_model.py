"""What a model directory makes: text, or one vector for each input."""

from pathlib import Path
from typing import Literal

import msgspec

from config.model.rerank import RerankSettings
from config.model.settings import EngineSettings
from engine.errors import ModelError
from engine.model.config_reader import architecture_of
from engine.model.decoder_vectors import judges, read_decoder_vectors
from engine.model.encoder_config import CLASSIFIERS, ENCODERS, read_encoder_config
from engine.model.model_config import ARCHITECTURES, BASE_MODELS, SEQUENCE_CLASSIFIERS, read_model_config
from engine.model.sentence_modules import Sentence, has_module
from engine.model.vectors import EmbeddingSizes
from engine.text.pair_template import PairTemplate
from engine.text.tokenizer import read_json

Made = Literal["text", "embeddings", "scores"]


class VectorModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that makes vectors, as far as it must be known where it does not run."""

    sizes: EmbeddingSizes
    max_tokens: int
    """The longest input."""
    sentence: Sentence
    pair: PairTemplate | None = None
    """How two texts become one prompt; None: as the tokenizer joins two texts."""


def is_encoder(directory: Path) -> bool:
    """Whether the tokens of the model's inputs see each other. Raises ModelError if config.json is unreadable."""
    return _architecture(directory) in {*ENCODERS, *CLASSIFIERS}


def made_by(directory: Path, rerank: RerankSettings | None = None) -> Made:
    """What the model makes, with the settings of its engine. Raises ModelError if its files are unreadable.

    A causal model makes text, unless its files have a module that pools its last layer, or say that its answer is to be
    read as a score, or `rerank` says so.
    """
    architecture = _architecture(directory)
    if architecture in CLASSIFIERS or architecture in SEQUENCE_CLASSIFIERS:
        return "scores"
    if architecture in ENCODERS:
        return "embeddings"
    if architecture not in ARCHITECTURES and architecture not in BASE_MODELS:
        return "text"
    if rerank is not None or judges(directory, read_json(directory / "config.json")):
        return "scores"
    return "embeddings" if architecture in BASE_MODELS or has_module(directory, "Pooling") else "text"


def read_vector_model(directory: Path, rerank: RerankSettings | None = None) -> VectorModel | None:
    """None: the model makes text. Keys of config.json are not checked. Raises ModelError."""
    if made_by(directory, rerank) == "text":
        return None
    if is_encoder(directory):
        check_no_rerank(directory, rerank)
        encoder = read_encoder_config(directory, None)
        return VectorModel(sizes=encoder.sizes, max_tokens=encoder.max_tokens, sentence=encoder.sentence)
    vectors, positions = read_decoder_vectors(directory, rerank), read_model_config(directory, None).max_positions
    longest = min(positions, vectors.sentence.max_tokens or positions)
    return VectorModel(sizes=vectors.sizes, max_tokens=longest, sentence=vectors.sentence, pair=vectors.pair)


def vector_identity(engine: EngineSettings) -> str:
    """Engines with the same one make the same vectors of the same inputs."""
    return str(engine.model) if engine.rerank is None else f"{engine.model} {engine.rerank}"


def check_no_rerank(directory: Path, rerank: RerankSettings | None) -> None:
    """Of an encoder. Raises ModelError."""
    if rerank is not None:
        raise ModelError(
            "engine_settings", f"{directory} is an encoder, whose files say how it makes scores: remove rerank"
        )


def _architecture(directory: Path) -> str:
    return architecture_of(read_json(directory / "config.json"))
