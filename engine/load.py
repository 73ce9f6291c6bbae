"""Load a model directory as the engine that fits it: for text, or for vectors by an encoder or a decoder."""

from collections.abc import Callable

from config.model.settings import EngineSettings
from engine.core.decoder_embedder import DecoderEmbedder
from engine.core.embedder import Embedder
from engine.core.engine import Engine
from engine.errors import ModelError
from engine.model.vector_model import check_no_rerank, is_encoder, made_by
from engine.tensor_parallel.ranks import rank_settings


def load_engine(
    settings: EngineSettings, name: str, progress: Callable[[str], None] | None = None
) -> Engine | Embedder | DecoderEmbedder:
    """Load `settings.model` by what it makes; otherwise as `Engine.load`."""
    if made_by(settings.model, settings.rerank) == "text":
        return Engine.load(settings, name, progress)
    if settings.tensor_parallel > 1:
        raise ModelError("tensor_parallel", "models that make embeddings are not split: use replicas")
    own = rank_settings(settings)[0]
    if not is_encoder(settings.model):
        return DecoderEmbedder.load(own, name, progress)
    check_no_rerank(settings.model, settings.rerank)
    return Embedder.load(own, name, progress)
