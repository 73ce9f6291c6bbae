"""An encoder model behind the `EmbeddingRunner` interface: one `embed` call per step."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from config.model.settings import EngineSettings
from engine.errors import ModelError
from engine.forward.encoder import Encoder
from engine.forward.modern_encoder import ModernEncoder
from engine.memory.resources import resolve_alone
from engine.model.checkpoint import Checkpoint
from engine.model.encoder_config import EncoderConfig, read_encoder_config
from engine.model.modern_config import ModernConfig
from engine.quantization.config import read_quantization
from engine.threads import set_threads
from engine.torch_runner import compute_dtype, open_device, stated_length
from engine.weights.encoder_weights import WORD_EMBEDDINGS, load_encoder_weights, name_prefix
from engine.weights.linear import LinearFactory
from engine.weights.modern_weights import MODERN_WORDS, load_modern_weights, modern_prefix


class EncoderRunner:
    """One loaded encoder. Must be built and used in the same thread."""

    def __init__(self, settings: EngineSettings, progress: Callable[[str], None]) -> None:
        """Load `settings.model`, as `engine.tensor_parallel.runner.load_runner` does a decoder."""
        settings = resolve_alone(settings)
        set_threads(settings.threads)
        device = open_device(settings.device)
        config = read_encoder_config(settings.model, settings.ignore_config_keys)
        if settings.quantization is not None or read_quantization(settings.model) is not None:
            raise ModelError("quantization", f"{settings.model} is an encoder, which is not computed quantized")
        with torch.inference_mode(), Checkpoint(settings.model) as checkpoint:
            dtype = compute_dtype(settings, checkpoint.dtype(_words(checkpoint, config)), device)
            linears = LinearFactory(device, dtype, settings.threads)
            linears.compile(progress)
            self._encoder: Encoder | ModernEncoder | None
            ignored = settings.ignore_tensors
            if isinstance(config, ModernConfig):
                modern = load_modern_weights(checkpoint, config, linears, progress, ignored=ignored)
                self._encoder = ModernEncoder(modern, config, dtype, device)
            else:
                weights = load_encoder_weights(checkpoint, config, linears, progress, ignored=ignored)
                self._encoder = Encoder(weights, config, dtype, device)
        self.dtype = str(dtype).removeprefix("torch.")
        self.vocab_size = config.vocab_size
        stated = stated_length(settings, config.usable_positions, " has positions")
        self.max_input_tokens = stated or config.max_tokens
        self.sizes = config.sizes
        progress("warming up")
        self.embed([(0,)])

    def embed(self, inputs: Sequence[Sequence[int]], seconds: Sequence[int | None] = ()) -> npt.NDArray[np.float32]:
        if self._encoder is None:
            raise ModelError("engine_closed", "the engine is closed")
        with torch.inference_mode():
            embeddings: npt.NDArray[np.float32] = self._encoder.forward(inputs, seconds).cpu().numpy()
        return embeddings

    def close(self) -> None:
        self._encoder = None


def _words(checkpoint: Checkpoint, config: EncoderConfig | ModernConfig) -> str:
    """The name of the tensor whose type decides what to compute in."""
    if isinstance(config, ModernConfig):
        return modern_prefix(checkpoint) + MODERN_WORDS
    return name_prefix(checkpoint, config) + WORD_EMBEDDINGS
