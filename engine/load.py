"""Load a model directory as the engine that fits it: `Engine` for a decoder, `Embedder` for an encoder."""

from collections.abc import Callable

from config.model.settings import EngineSettings
from engine.core.embedder import Embedder
from engine.core.engine import Engine
from engine.errors import ModelError
from engine.model.encoder_config import is_encoder
from engine.tensor_parallel.ranks import rank_settings


def load_engine(
    settings: EngineSettings, name: str, progress: Callable[[str], None] | None = None
) -> Engine | Embedder:
    """Load `settings.model` by the architecture in its config.json; otherwise as `Engine.load`."""
    if is_encoder(settings.model):
        if settings.tensor_parallel > 1:
            raise ModelError("tensor_parallel", "models that make embeddings are not split: use replicas")
        return Embedder.load(rank_settings(settings)[0], name, progress)
    return Engine.load(settings, name, progress)
