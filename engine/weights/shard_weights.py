"""Loading one rank's part of a decoder; split tensors are read only in part."""

import torch
from torch import Tensor

from engine.model.checkpoint import Checkpoint
from engine.model.model_config import ModelConfig
from engine.weights.decoder_weights import WeightLoader
from engine.weights.linear import Linear, LinearFactory
from engine.weights.shard import Shard, ShardPart, rows_of


class ShardLoader(WeightLoader):
    """See `engine.weights.shard` for what is split."""

    def __init__(self, checkpoint: Checkpoint, config: ModelConfig, linears: LinearFactory, shard: Shard) -> None:
        super().__init__(checkpoint, config, linears)
        self._shard = shard

    def linear(self, parts: dict[str, int], inputs: int, *, bias: bool) -> Linear:
        """Column-parallel: outputs are split."""
        weights, biases = [], []
        for name, outputs in parts.items():
            for begin, size, _ in self._parts(name, outputs):
                rows = slice(begin, begin + size)
                weights.append(self._cut(f"{name}.weight", (outputs, inputs), (rows, slice(None))))
                if bias:
                    biases.append(self._cut(f"{name}.bias", (outputs,), (rows,)))
        return self._linears.make(torch.cat(weights), torch.cat(biases) if bias else None)

    def residual_linear(self, name: str, outputs: int, inputs: int, *, bias: bool) -> Linear:
        """Row-parallel: inputs are split; partial sums, in float32 where that is free, are summed before the bias."""
        product = self.expert_residual_linear(name, outputs, inputs)
        shift = self.take(f"{name}.bias", outputs).to(self._device) if bias else None
        total, dtype = self._shard.sum, self._dtype

        def linear(x: Tensor) -> Tensor:
            y = total(product(x))
            return (y if shift is None else y + shift).to(dtype)

        return linear

    def expert_residual_linear(self, name: str, outputs: int, inputs: int) -> Linear:
        """The partial sums without reduction."""
        begin, size, _ = self._shard.split(inputs)
        cut = (slice(None), slice(begin, begin + size))
        return self._linears.make(self._cut(f"{name}.weight", (outputs, inputs), cut), head=True)

    def reduce(self, partial: Tensor) -> Tensor:
        return self._shard.sum(partial)

    def router(self, name: str, outputs: int, inputs: int) -> Linear:
        """Not split: every rank needs all scores."""
        return super().linear({name: outputs}, inputs, bias=False)

    def head(self, embedding: Tensor) -> Linear:
        """The vocabulary is split; rank 0 receives all logits."""
        config, vocab, hidden = self._config, self._config.vocab_size, self._config.hidden_size
        part = self._shard.columns(vocab)
        if self.tied_head:
            weight = rows_of(embedding, part)
        else:
            end = min(part.begin + part.size, vocab)
            rows = self._cut("lm_head.weight", (vocab, hidden), (slice(min(part.begin, end), end), slice(None)))
            weight = rows_of(rows, ShardPart(0, part.size, len(rows)))
        product, gather = self._linears.make(weight, head=True), self._shard.gather

        def linear(x: Tensor) -> Tensor:
            return gather(product(x))[:, : config.vocab_size]

        return linear

    def _cut(self, name: str, shape: tuple[int, ...], cut: tuple[slice, ...]) -> Tensor:
        return self._checkpoint.take(name, shape, self._dtype, cut)

    def _parts(self, name: str, outputs: int) -> list[ShardPart]:
        """This rank's rows of a matrix."""
        config, shard = self._config, self._shard
        queries, keys = shard.heads(config.heads, config.head_dim), shard.heads(config.kv_heads, config.head_dim)
        match name.rpartition(".")[2]:
            case "q_proj":
                return [queries]
            case "k_proj" | "v_proj":
                return [keys]
            case "qkv_proj":
                return [queries, _after(keys, queries.of), _after(keys, queries.of + keys.of)]
            case "gate_up_proj":
                inner = shard.split(outputs // 2)
                return [inner, _after(inner, inner.of)]
            case _:
                return [shard.split(outputs)]


def _after(part: ShardPart, rows: int) -> ShardPart:
    return ShardPart(part.begin + rows, part.size, part.of)
