"""A rank's part of a model that several ranks compute together, after "Megatron-LM" (Shoeybi et al., 2019, section 3).

Heads, the inner width of each MLP and expert, and the vocabulary of the head are split; everything else every rank has
whole. A product with split outputs needs nobody else. One with split inputs gives a partial sum, and all ranks add
theirs up: twice a layer. KV heads are split too, or, where there are fewer of them than ranks, kept by several.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.model_config import ModelConfig


class ShardPart(NamedTuple):
    """`size` of `of` rows or columns, from `begin` on."""

    begin: int
    size: int
    of: int


class ShardExchange(NamedTuple):
    """What ranks do together. Every rank calls the same in the same order."""

    sum: Callable[[Tensor], Tensor]
    """The sum of all ranks' tensors; may overwrite its argument."""
    gather: Callable[[Tensor], Tensor]
    """On rank 0 all ranks' columns side by side, on others nothing that means anything."""


class Shard:
    """Which part is this rank's, and its way to the others once it is connected."""

    def __init__(self, rank: int, ranks: int, connect: Callable[[int], ShardExchange]) -> None:
        """`connect` takes the KV blocks that this rank has, and returns when every rank has loaded its part."""
        self.rank = rank
        self.ranks = ranks
        self._connect = connect
        self._exchange: ShardExchange | None = None

    def connect(self, blocks: int) -> None:
        """Wait for the others, with so many KV blocks. Raises ModelError if one of them cannot load its part."""
        self._exchange = self._connect(blocks)

    def disconnect(self) -> None:
        """Leave the others, if they were met. A process that ends as a member may be aborted by the library."""
        self._exchange = None

    def sum(self, partial: Tensor) -> Tensor:
        """Of all ranks' partial sums."""
        assert self._exchange is not None
        return self._exchange.sum(partial)

    def gather(self, part: Tensor) -> Tensor:
        """[rows, part of the columns] → on rank 0 [rows, columns]."""
        assert self._exchange is not None
        return self._exchange.gather(part)

    def config(self, config: ModelConfig) -> ModelConfig:
        """The model as this rank computes it.

        Raises:
            ModelError: it cannot be split into so many parts.
        """
        ranks = self.ranks
        experts = config.experts
        for what, size in (
            ("attention heads", config.heads),
            ("the MLP's inner width", config.intermediate_size),
            ("the experts' inner width", experts.intermediate_size if experts is not None else ranks),
        ):
            if size % ranks:
                raise ModelError(
                    "tensor_parallel",
                    f"tensor_parallel = {ranks} does not divide {what}, {size}",
                )
        if config.kv_heads % ranks and ranks % config.kv_heads:
            raise ModelError(
                "tensor_parallel",
                f"tensor_parallel = {ranks} and {config.kv_heads} KV heads: one must be a multiple of the other",
            )
        if experts is not None:
            experts = msgspec.structs.replace(experts, intermediate_size=experts.intermediate_size // ranks)
        return msgspec.structs.replace(
            config,
            heads=config.heads // ranks,
            kv_heads=max(config.kv_heads // ranks, 1),
            intermediate_size=config.intermediate_size // ranks,
            experts=experts,
        )

    def split(self, size: int) -> ShardPart:
        """This rank's part of something that all ranks share evenly."""
        part = size // self.ranks
        return ShardPart(self.rank * part, part, size)

    def heads(self, heads: int, head_dim: int) -> ShardPart:
        """Its rows of q, k or v with so many heads; a KV head belongs to several ranks if there are more ranks."""
        mine = max(heads // self.ranks, 1)
        return ShardPart(self.rank * heads // self.ranks * head_dim, mine * head_dim, heads * head_dim)

    def columns(self, size: int) -> ShardPart:
        """Its part of the vocabulary: evenly, so that the last rank's may reach beyond the end."""
        part = -(-size // self.ranks)
        return ShardPart(self.rank * part, part, size)


def rows_of(whole: Tensor, part: ShardPart) -> Tensor:
    """These rows; those beyond the end are zeros."""
    rows = whole[part.begin : part.begin + part.size]
    missing = part.size - len(rows)
    return rows if not missing else torch.cat((rows, rows.new_zeros((missing, *rows.shape[1:]))))
