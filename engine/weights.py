"""A decoder's weights, fused and prepared for products."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from engine.checkpoint import Checkpoint
from engine.linear import Linear, LinearFactory
from engine.model_config import ModelConfig


class LayerWeights(NamedTuple):
    """One layer. Norm weights are float32 [hidden] or [head_dim]."""

    input_norm: Tensor
    qkv: Linear
    """[rows, hidden] → [rows, (heads + 2 · kv_heads) · head_dim]: q, then k, then v."""
    q_norm: Tensor | None
    k_norm: Tensor | None
    o: Linear
    post_norm: Tensor
    gate_up: Linear
    """[rows, hidden] → [rows, 2 · intermediate]: gate, then up."""
    down: Linear


class Weights(NamedTuple):
    """The whole decoder."""

    embedding: Tensor
    """[vocab, hidden] in the compute dtype."""
    layers: tuple[LayerWeights, ...]
    final_norm: Tensor
    head: Linear


def load_weights(  # noqa: PLR0917
    checkpoint: Checkpoint,
    config: ModelConfig,
    dtype: torch.dtype,
    device: torch.device,
    linears: LinearFactory,
    progress: Callable[[str], None],
) -> Weights:
    """Read, check, fuse and prepare every tensor.

    Raises:
        ModelError: a tensor is missing or has another shape than config.json implies.
    """
    loader = _Loader(checkpoint, config, dtype, device, linears)
    layers = []
    for layer in range(config.layers):
        progress(f"loading layer {layer + 1} of {config.layers}")
        layers.append(loader.layer(layer))
    embedding = loader.take("model.embed_tokens.weight", config.vocab_size, config.hidden_size)
    head = loader.head(embedding)
    return Weights(embedding.to(device), tuple(layers), loader.norm("model.norm", config.hidden_size), head)


class _Loader:
    def __init__(
        self,
        checkpoint: Checkpoint,
        config: ModelConfig,
        dtype: torch.dtype,
        device: torch.device,
        linears: LinearFactory,
    ) -> None:
        self._checkpoint = checkpoint
        self._config = config
        self._dtype = dtype
        self._device = device
        self._linears = linears

    def take(self, name: str, *shape: int) -> Tensor:
        return self._checkpoint.take(name, shape, self._dtype)

    def norm(self, name: str, size: int) -> Tensor:
        return self._checkpoint.take(f"{name}.weight", (size,), torch.float32).to(self._device)

    def linear(self, parts: dict[str, int], inputs: int, *, bias: bool) -> Linear:
        """One product for several matrices that read the same input: `parts` maps names to output sizes, in order."""
        weights = [self.take(f"{name}.weight", outputs, inputs) for name, outputs in parts.items()]
        biases = [self.take(f"{name}.bias", outputs) for name, outputs in parts.items()] if bias else []
        weight = torch.cat(weights) if len(weights) > 1 else weights[0]
        return self._linears.make(weight, torch.cat(biases) if bias else None)

    def layer(self, index: int) -> LayerWeights:
        config = self._config
        hidden, inner = config.hidden_size, config.intermediate_size
        queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
        at = f"model.layers.{index}"
        attention, mlp = f"{at}.self_attn", f"{at}.mlp"
        qkv = {f"{attention}.q_proj": queries, f"{attention}.k_proj": keys, f"{attention}.v_proj": keys}
        return LayerWeights(
            input_norm=self.norm(f"{at}.input_layernorm", hidden),
            qkv=self.linear(qkv, hidden, bias=config.qkv_bias),
            q_norm=self.norm(f"{attention}.q_norm", config.head_dim) if config.qk_norm else None,
            k_norm=self.norm(f"{attention}.k_norm", config.head_dim) if config.qk_norm else None,
            o=self.linear({f"{attention}.o_proj": hidden}, queries, bias=config.o_bias),
            post_norm=self.norm(f"{at}.post_attention_layernorm", hidden),
            gate_up=self.linear({f"{mlp}.gate_proj": inner, f"{mlp}.up_proj": inner}, hidden, bias=config.mlp_bias),
            down=self.linear({f"{mlp}.down_proj": hidden}, inner, bias=config.mlp_bias),
        )

    def head(self, embedding: Tensor) -> Linear:
        config = self._config
        tied = config.tied_head
        if tied is None:
            tied = "lm_head.weight" not in self._checkpoint
        weight = embedding if tied else self.take("lm_head.weight", config.vocab_size, config.hidden_size)
        return self._linears.make_head(weight)
