"""Loading an encoder's weights, fused and prepared for products."""

from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import Tensor

from engine.model.checkpoint import Checkpoint
from engine.model.encoder_config import EncoderConfig
from engine.weights.linear import Linear, LinearFactory


class Norm(NamedTuple):
    """Layer norm: weight and bias, float32 [hidden]."""

    weight: Tensor
    bias: Tensor


class EncoderLayer(NamedTuple):
    """One layer with post-norm: norms follow the residual additions."""

    qkv: Linear
    """[rows, hidden] → [rows, 3 · hidden]: q, then k, then v."""
    o: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    output_norm: Norm


class Projection(NamedTuple):
    """A product of a classifier's head, float32."""

    weight: Tensor
    """[outputs, inputs]"""
    bias: Tensor
    """[outputs]"""


class ClassifierHead(NamedTuple):
    """What makes scores of the first token's row, with a tanh between."""

    dense: Projection
    """[hidden] → [hidden]"""
    out: Projection
    """[hidden] → [labels]"""


class EncoderWeights(NamedTuple):
    """All weights of an encoder. Embedding tables are float32, because their rows are only added."""

    words: Tensor
    """[vocab, hidden]"""
    positions: Tensor
    """[kinds of tokens · positions, hidden]: for each position, first all of token type 0, with the type's embedding
    added."""
    norm: Norm
    layers: tuple[EncoderLayer, ...]
    head: ClassifierHead | None = None
    """Of a classifier."""


_HEADS = (r"(.*\.)?embeddings\.position_ids", r"(.*\.)?pooler\..*", r"cls\..*", r"lm_head\..*")
"""The position ids 0, 1, 2, ... and the modules after the layers, which embeddings do not use."""
_HEAD_NAMES = {"bert.": ("bert.pooler.dense", "classifier"), "roberta.": ("classifier.dense", "classifier.out_proj")}
"""A classifier's two products, by the family's prefix."""
WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"


def name_prefix(checkpoint: Checkpoint, config: EncoderConfig) -> str:
    """The prefix of the tensor names in this file; "" if it has none."""
    return config.prefix if config.prefix + WORD_EMBEDDINGS in checkpoint else ""


def load_encoder_weights(
    checkpoint: Checkpoint,
    config: EncoderConfig,
    linears: LinearFactory,
    progress: Callable[[str], None],
    *,
    ignored: Collection[str] = (),
) -> EncoderWeights:
    """Read, check, fuse and prepare every tensor that an embedding needs; `ignored`: see `Checkpoint.check_unused`.

    Raises ModelError: a tensor is missing, unused, non-finite, or has another shape than config.json implies.
    """
    hidden, inner, dtype, device = config.hidden_size, config.intermediate_size, linears.dtype, linears.device
    prefix = name_prefix(checkpoint, config)

    def take(name: str, *shape: int, kind: torch.dtype = torch.float32) -> Tensor:
        return checkpoint.take(prefix + name, shape, kind)

    def norm(name: str) -> Norm:
        return Norm(take(f"{name}.weight", hidden).to(device), take(f"{name}.bias", hidden).to(device))

    def linear(names: tuple[str, ...], outputs: int, inputs: int) -> Linear:
        weights = [take(f"{name}.weight", outputs, inputs, kind=dtype) for name in names]
        biases = [take(f"{name}.bias", outputs, kind=dtype) for name in names]
        return linears.make(torch.cat(weights), torch.cat(biases))

    words = take(WORD_EMBEDDINGS, config.vocab_size, hidden)
    positions = take("embeddings.position_embeddings.weight", config.positions, hidden)
    kinds = take("embeddings.token_type_embeddings.weight", config.token_types, hidden)
    layers = []
    for index in range(config.layers):
        progress(f"loading layer {index + 1} of {config.layers}")
        at = f"encoder.layer.{index}"
        attention = f"{at}.attention"
        parts = tuple(f"{attention}.self.{part}" for part in ("query", "key", "value"))
        layers.append(
            EncoderLayer(
                qkv=linear(parts, hidden, hidden),
                o=linear((f"{attention}.output.dense",), hidden, hidden),
                attention_norm=norm(f"{attention}.output.LayerNorm"),
                up=linear((f"{at}.intermediate.dense",), inner, hidden),
                down=linear((f"{at}.output.dense",), hidden, inner),
                output_norm=norm(f"{at}.output.LayerNorm"),
            )
        )
    first = norm("embeddings.LayerNorm")

    def projection(name: str, outputs: int) -> Projection:
        weight = checkpoint.take(f"{name}.weight", (outputs, hidden), torch.float32)
        return Projection(weight.to(device), checkpoint.take(f"{name}.bias", (outputs,), torch.float32).to(device))

    head = None
    if config.scored_by is not None:
        dense, out = _HEAD_NAMES[config.prefix]
        head = ClassifierHead(projection(dense, hidden), projection(out, config.sizes.whole))
    checkpoint.check_unused(_HEADS, ignored)
    used = kinds[:2] if config.tells_texts_apart else kinds[:1]
    typed = torch.cat([positions + kind for kind in used])
    return EncoderWeights(words.to(device), typed.to(device), first, tuple(layers), head)
