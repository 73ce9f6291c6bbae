"""Loading a decoder's weights, fused and prepared for products."""

from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.checkpoint import Checkpoint
from engine.model.model_config import Experts, ModelConfig
from engine.quantization.config import Quantization
from engine.quantization.scheme import join
from engine.quantization.tensors import QuantizedSource
from engine.weights.linear import Linear, LinearFactory
from engine.weights.mlp import Dense, Mixture, Mlp

_BUFFERS = (r".*\.rotary_emb\.(inv_freq|cos_cached|sin_cached)",)
"""Rotary tables, which are computed from config.json."""
_HEADS = (r"lm_head\..*", r"score\..*")


class LayerWeights(NamedTuple):
    """One layer. Norm weights are float32 [hidden] or, for q and k, [head_dim]."""

    input_norm: Tensor
    qkv: Linear
    """[rows, hidden] → [rows, (heads + 2 · kv_heads) · head_dim]: q, then k, then v."""
    q_norm: Tensor | None
    k_norm: Tensor | None
    o: Linear
    after_attention: Tensor | None
    """Norm of the attention output, before the residual addition (`post_norms`)."""
    mlp_norm: Tensor
    mlp: Mlp
    after_mlp: Tensor | None


class Weights(NamedTuple):
    """All weights of a decoder."""

    embedding: Tensor
    """[vocab, hidden] in the compute dtype; not scaled."""
    embedding_scale: Tensor | None
    """Scalar tensor in the compute dtype."""
    layers: tuple[LayerWeights, ...]
    final_norm: Tensor
    head: Linear | None
    """From the normed output to logits; None: the model makes no text."""


def qkv_parts(config: ModelConfig, attention: str) -> dict[str, int]:
    """Output sizes of the q, k and v matrices by tensor name, in the order of the fused product."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    if config.fused:
        return {f"{attention}.qkv_proj": queries + 2 * keys}
    return {f"{attention}.q_proj": queries, f"{attention}.k_proj": keys, f"{attention}.v_proj": keys}


def gate_up_parts(config: ModelConfig, mlp: str) -> dict[str, int]:
    """Output sizes of a dense MLP's gate and up matrices by tensor name, in the order of the fused product."""
    if config.fused:
        return {f"{mlp}.gate_up_proj": 2 * config.intermediate_size}
    return {f"{mlp}.gate_proj": config.intermediate_size, f"{mlp}.up_proj": config.intermediate_size}


class WeightLoader:
    """Maps layers to tensor names, and fuses matrices that share an input."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: ModelConfig,
        linears: LinearFactory,
        quantization: Quantization | None = None,
    ) -> None:
        """`config` describes the whole model."""
        self._checkpoint = checkpoint
        self._config = config
        self._dtype = linears.dtype
        self._device = linears.device
        self._linears = linears
        self._quantized = QuantizedSource(checkpoint, quantization)

    def load(
        self, progress: Callable[[str], None], ignored: Collection[str] = (), *, makes_text: bool = True
    ) -> Weights:
        """Read, check, fuse and prepare every tensor. `ignored`: see `Checkpoint.check_unused`.

        `makes_text` False: tensors of a head are neither read nor missed.

        Raises ModelError: a tensor is missing, unused, non-finite, has another shape than config.json implies, or
        cannot be quantized as configured.
        """
        config = self._config
        layers = []
        for layer in range(config.layers):
            progress(f"loading layer {layer + 1} of {config.layers}")
            layers.append(self.layer(layer))
        embedding = self.take("model.embed_tokens.weight", config.vocab_size, config.hidden_size)
        head = self.head(embedding) if makes_text else None
        scale = None
        if config.embedding_scale != 1:
            scale = torch.tensor(config.embedding_scale, dtype=self._dtype, device=self._device)
        final_norm = self.norm("model.norm", config.hidden_size)
        if makes_text:
            self.check_tied(embedding)
        self._checkpoint.check_unused(_BUFFERS if makes_text else (*_BUFFERS, *_HEADS), ignored)
        return Weights(embedding.to(self._device), scale, tuple(layers), final_norm, head)

    def take(self, name: str, *shape: int) -> Tensor:
        return self._checkpoint.take(name, shape, self._dtype)

    def norm(self, name: str, size: int) -> Tensor:
        """A norm's weight [size] float32, with `norm_offset` added."""
        weight = self._checkpoint.take(f"{name}.weight", (size,), torch.float32)
        return (weight + self._config.norm_offset).to(self._device)

    def linear(self, parts: dict[str, int], inputs: int, *, bias: bool) -> Linear:
        """One product for several matrices that read the same input; `parts`: output sizes by name, in order."""
        biases = [self.take(f"{name}.bias", outputs) for name, outputs in parts.items()] if bias else []
        joined_bias = torch.cat(biases) if bias else None
        if (quantized := self._quantized.take_alike(parts, inputs)) is not None:
            return self._linears.make(join(quantized), joined_bias)
        weights = [self.take(f"{name}.weight", outputs, inputs) for name, outputs in parts.items()]
        weight = torch.cat(weights) if len(weights) > 1 else weights[0]
        return self._linears.make(weight, joined_bias)

    def residual_linear(self, name: str, outputs: int, inputs: int, *, bias: bool) -> Linear:
        """The product from attention or MLP back to the residual stream; row-parallel under tensor parallelism."""
        return self.linear({name: outputs}, inputs, bias=bias)

    def expert_residual_linear(self, name: str, outputs: int, inputs: int) -> Linear:
        """The same for an expert, but not reduced over ranks: `reduce` is applied to the sum of the experts."""
        return self.linear({name: outputs}, inputs, bias=False)

    def reduce(self, partial: Tensor) -> Tensor:
        """Sum a partial result over the tensor-parallel ranks."""
        return partial

    def router(self, name: str, outputs: int, inputs: int) -> Linear:
        return self.linear({name: outputs}, inputs, bias=False)

    def layer(self, index: int) -> LayerWeights:
        config = self._config
        hidden, queries = config.hidden_size, config.heads * config.head_dim
        at = f"model.layers.{index}"
        attention = f"{at}.self_attn"
        # Gemma has norms before and after the MLP, and names the one before it `pre_feedforward_layernorm`.
        mlp_norm = "pre_feedforward_layernorm" if config.post_norms else "post_attention_layernorm"
        return LayerWeights(
            input_norm=self.norm(f"{at}.input_layernorm", hidden),
            qkv=self.linear(qkv_parts(config, attention), hidden, bias=config.qkv_bias),
            q_norm=self.norm(f"{attention}.q_norm", config.head_dim) if config.qk_norm else None,
            k_norm=self.norm(f"{attention}.k_norm", config.head_dim) if config.qk_norm else None,
            o=self.residual_linear(f"{attention}.o_proj", hidden, queries, bias=config.o_bias),
            after_attention=self.norm(f"{at}.post_attention_layernorm", hidden) if config.post_norms else None,
            mlp_norm=self.norm(f"{at}.{mlp_norm}", hidden),
            mlp=self._mlp(index),
            after_mlp=self.norm(f"{at}.post_feedforward_layernorm", hidden) if config.post_norms else None,
        )

    def _mlp(self, index: int) -> Mlp:
        config = self._config
        hidden, inner = config.hidden_size, config.intermediate_size
        mlp = f"model.layers.{index}.mlp"
        if config.experts is not None and config.experts.layers[index]:
            return self._mixture(index, config.experts)
        return Dense(
            self.linear(gate_up_parts(config, mlp), hidden, bias=config.mlp_bias),
            self.residual_linear(f"{mlp}.down_proj", hidden, inner, bias=config.mlp_bias),
        )

    def _mixture(self, index: int, experts: Experts) -> Mixture:
        hidden, inner = self._config.hidden_size, experts.intermediate_size
        mixtral = f"model.layers.{index}.block_sparse_moe"
        at = mixtral if f"{mixtral}.gate.weight" in self._checkpoint else f"model.layers.{index}.mlp"
        gate, up, down = ("w1", "w3", "w2") if at == mixtral else ("gate_proj", "up_proj", "down_proj")
        pairs = []
        for number in range(experts.count):
            expert = f"{at}.experts.{number}"
            gate_up = self.linear({f"{expert}.{gate}": inner, f"{expert}.{up}": inner}, hidden, bias=False)
            pairs.append((gate_up, self.expert_residual_linear(f"{expert}.{down}", hidden, inner)))
        return Mixture(
            self.router(f"{at}.gate", experts.count, hidden),
            pairs,
            active=experts.active,
            renormalize=experts.renormalize,
            activation=self._config.activation,
            pad_single=not (self._linears.own or self._linears.tile),
            reduce=self.reduce,
            tile=self._linears.tile,
        )

    def head(self, embedding: Tensor) -> Linear:
        """The product from the normed output to logits."""
        config = self._config
        source = "model.embed_tokens" if self.tied_head else "lm_head"
        shape = config.vocab_size, config.hidden_size
        if (quantized := self._quantized.take("lm_head", *shape, weights=source)) is not None:
            return self._linears.make(quantized, head=True)
        return self._linears.make(embedding if self.tied_head else self.take("lm_head.weight", *shape), head=True)

    def check_tied(self, embedding: Tensor) -> None:
        """Check that a head stored in the files equals the embedding, if config.json says so. Raises ModelError."""
        name = "lm_head.weight"
        if not self.tied_head or name not in self._checkpoint:
            return
        if not torch.equal(self.take(name, *embedding.shape), embedding):
            raise ModelError(
                "model_tensor",
                f"{self._checkpoint.directory}: tensor {name} is another one than model.embed_tokens.weight, and "
                "tie_word_embeddings says that they are one; set it to false in config.json, or remove the tensor",
            )

    @property
    def tied_head(self) -> bool:
        """Whether the head shares the embedding's weights."""
        tied = self._config.tied_head
        if tied is not None:
            return tied
        return "lm_head.weight" not in self._checkpoint and not self._quantized.has("lm_head")
