"""A decoder that makes vectors behind the `VectorMaker` interface: layers with a KV pool, and what makes a vector."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from config.model.settings import EngineSettings
from engine.errors import ModelError
from engine.memory.resources import resolve_alone
from engine.model.checkpoint import Checkpoint
from engine.model.decoder_vectors import DecoderVectors, read_decoder_vectors
from engine.model.model_config import ModelConfig, read_model_config
from engine.scheduling.batch import Batch
from engine.torch_runner import TorchRunner


class VectorRunner:
    """One loaded decoder without a language model's head. Must be built and used in the same thread."""

    def __init__(self, settings: EngineSettings, progress: Callable[[str], None]) -> None:
        """Load `settings.model`. Raises ModelError: it cannot be served; the message says why."""
        settings = resolve_alone(settings)
        self._vectors = vectors = read_decoder_vectors(settings.model, settings.rerank, settings.ignore_config_keys)
        config = read_model_config(settings.model, settings.ignore_config_keys)
        self._logit_cap = config.logit_cap
        self._head = _head(settings, config, vectors)
        """[logits, hidden] float32; None: the vector is the row itself."""
        self._runner = runner = TorchRunner(settings, progress, makes_text=False)
        self.dtype = runner.dtype
        self.block_size = runner.block_size
        self.total_blocks = runner.total_blocks
        self.kv_bytes = runner.kv_bytes
        self.vocab_size = runner.vocab_size
        meant = settings.max_model_len or vectors.sentence.max_tokens or runner.max_model_len
        self.max_input_tokens = min(meant, runner.max_model_len)
        self.sizes = vectors.sizes
        self.pooling = "last" if vectors.scored_by is not None else vectors.sentence.pooling

    def hidden(self, batch: Batch, rows: Sequence[tuple[int, int]]) -> list[npt.NDArray[np.float32]]:
        return self._runner.hidden(batch, rows)

    def vector(self, row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if self._head is not None:
            return self._scores(self._head @ row)
        if self._vectors.sentence.normalize:
            return row / max(np.linalg.norm(row), np.float32(1e-12))
        return row

    def _scores(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if self._vectors.judged_by is not None:
            if self._logit_cap:
                logits = np.tanh(logits / self._logit_cap) * self._logit_cap
            logits = logits[:1] - logits[1:] if len(logits) > 1 else logits
        match self._vectors.scored_by:
            case "sigmoid":
                return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), np.float32)
            case "softmax":
                powers = np.exp(logits.astype(np.float64) - logits.max())
                return np.asarray(powers / powers.sum(), np.float32)
            case _:
                return logits

    def close(self) -> None:
        self._runner.close()


def _head(settings: EngineSettings, config: ModelConfig, vectors: DecoderVectors) -> Any:
    if vectors.scored_by is None:
        return None
    with Checkpoint(settings.model, base="model.") as checkpoint:
        if vectors.judged_by is None:
            shape = vectors.sizes.whole, config.hidden_size
            return checkpoint.take("score.weight", shape, torch.float32).numpy()
        own = "lm_head.weight" in checkpoint and config.tied_head is not True
        name = "lm_head.weight" if own else "model.embed_tokens.weight"
        rows = []
        for token in (vectors.judged_by.yes, vectors.judged_by.no):
            if token is None:
                continue
            if token >= config.vocab_size:
                raise ModelError("model_files", f"{settings.model}: token {token} is beyond the vocabulary")
            cut = slice(token, token + 1), slice(None)
            rows.append(checkpoint.take(name, (config.vocab_size, config.hidden_size), torch.float32, cut))
        return torch.cat(rows).numpy()
