"""Loading a ModernBERT's weights, prepared for products."""

from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import Tensor

from engine.model.checkpoint import Checkpoint
from engine.model.modern_config import ModernConfig
from engine.weights.linear import Linear, LinearFactory


class PlainNorm(NamedTuple):
    """Layer norm, float32 [hidden], with or without a bias."""

    weight: Tensor
    bias: Tensor | None


class ModernLayer(NamedTuple):
    """One layer with pre-norm."""

    attention_norm: PlainNorm | None
    """None: the first layer has none, because the embeddings are normed already."""
    qkv: Linear
    """[rows, hidden] → [rows, 3 · hidden]: q, then k, then v."""
    o: Linear
    mlp_norm: PlainNorm
    inner: Linear
    """[rows, hidden] → [rows, 2 · intermediate]: what is activated, then its factor."""
    down: Linear


class PooledHead(NamedTuple):
    """What makes scores of the pooled row: a product, an activation, a norm, another product; float32."""

    dense: Tensor
    """[hidden, hidden]"""
    dense_bias: Tensor | None
    norm: PlainNorm
    out: Tensor
    """[labels, hidden]"""
    out_bias: Tensor


class ModernWeights(NamedTuple):
    """All weights of a ModernBERT."""

    words: Tensor
    """[vocab, hidden] float32, because its rows are only normed."""
    norm: PlainNorm
    layers: tuple[ModernLayer, ...]
    final_norm: PlainNorm
    head: PooledHead | None
    """Of a classifier."""


MODERN_WORDS = "embeddings.tok_embeddings.weight"
_PREFIX = "model."
_HEADS = (r"head\..*", r"decoder\..*")
"""Of a language model, which embeddings do not use."""


def modern_prefix(checkpoint: Checkpoint) -> str:
    """The prefix of the tensor names in this file; "" if it has none."""
    return _PREFIX if _PREFIX + MODERN_WORDS in checkpoint else ""


def load_modern_weights(
    checkpoint: Checkpoint,
    config: ModernConfig,
    linears: LinearFactory,
    progress: Callable[[str], None],
    *,
    ignored: Collection[str] = (),
) -> ModernWeights:
    """As `load_encoder_weights`."""
    hidden, dtype, device = config.hidden_size, linears.dtype, linears.device
    prefix = modern_prefix(checkpoint)

    def take(name: str, *shape: int, kind: torch.dtype = torch.float32) -> Tensor:
        return checkpoint.take(name, shape, kind)

    def norm(name: str) -> PlainNorm:
        bias = take(f"{name}.bias", hidden).to(device) if config.norm_bias else None
        return PlainNorm(take(f"{name}.weight", hidden).to(device), bias)

    def linear(name: str, outputs: int, inputs: int, *, bias: bool) -> Linear:
        weight = take(f"{name}.weight", outputs, inputs, kind=dtype)
        return linears.make(weight, take(f"{name}.bias", outputs, kind=dtype) if bias else None)

    words = take(prefix + MODERN_WORDS, config.vocab_size, hidden).to(device)
    first = norm(f"{prefix}embeddings.norm")
    layers = []
    for index in range(config.layers):
        progress(f"loading layer {index + 1} of {config.layers}")
        at = f"{prefix}layers.{index}"
        layers.append(
            ModernLayer(
                attention_norm=norm(f"{at}.attn_norm") if index else None,
                qkv=linear(f"{at}.attn.Wqkv", 3 * hidden, hidden, bias=config.attention_bias),
                o=linear(f"{at}.attn.Wo", hidden, hidden, bias=config.attention_bias),
                mlp_norm=norm(f"{at}.mlp_norm"),
                inner=linear(f"{at}.mlp.Wi", 2 * config.intermediate_size, hidden, bias=config.mlp_bias),
                down=linear(f"{at}.mlp.Wo", hidden, config.intermediate_size, bias=config.mlp_bias),
            )
        )
    final = norm(f"{prefix}final_norm")
    head = None
    if config.scored_by is not None:
        labels = config.sizes.whole
        head = PooledHead(
            take("head.dense.weight", hidden, hidden).to(device),
            take("head.dense.bias", hidden).to(device) if config.classifier_bias else None,
            norm("head.norm"),
            take("classifier.weight", labels, hidden).to(device),
            take("classifier.bias", labels).to(device),
        )
    checkpoint.check_unused(_HEADS, ignored)
    return ModernWeights(words, first, tuple(layers), final, head)
