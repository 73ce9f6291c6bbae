"""How a model is split among ranks, after Shoeybi et al., "Megatron-LM", 2019, section 3.

Attention heads, the inner width of MLPs and experts, and the vocabulary of the head are split; every rank has the rest.
Products with split outputs need no communication. Products with split inputs give partial sums, which are summed over
all ranks, twice per layer. KV heads are split too, or replicated where there are fewer of them than ranks.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.model_config import ModelConfig


class ShardPart(NamedTuple):
    """Rows or columns begin : begin + size of `of`."""

    begin: int
    size: int
    of: int


class ShardExchange(NamedTuple):
    """Collective operations. Every rank makes the same calls in the same order."""

    sum: Callable[[Tensor], Tensor]
    """The sum of all ranks' tensors; may overwrite its argument."""
    gather: Callable[[Tensor], Tensor]
    """On rank 0 the concatenated columns of all ranks; undefined on the others."""


class Shard:
    """One rank's part of the model, and its connection to the other ranks."""

    def __init__(self, rank: int, ranks: int, connect: Callable[[int], ShardExchange]) -> None:
        """`connect` takes this rank's number of KV blocks, and returns when every rank has loaded its part."""
        self.rank = rank
        self.ranks = ranks
        self._connect = connect
        self._exchange: ShardExchange | None = None

    def connect(self, blocks: int) -> None:
        """Wait for the other ranks; `blocks`: own KV blocks. Raises ModelError if a rank cannot load its part."""
        self._exchange = self._connect(blocks)

    def disconnect(self) -> None:
        """Leave the group. A process that exits as a member may be aborted by the library."""
        self._exchange = None

    def sum(self, partial: Tensor) -> Tensor:
        assert self._exchange is not None
        return self._exchange.sum(partial)

    def gather(self, part: Tensor) -> Tensor:
        """[rows, part of the columns] → on rank 0 [rows, columns]."""
        assert self._exchange is not None
        return self._exchange.gather(part)

    def config(self, config: ModelConfig) -> ModelConfig:
        """The model's configuration as this rank computes it. Raises ModelError if it cannot be split so."""
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
        """This rank's part of an evenly split dimension."""
        part = size // self.ranks
        return ShardPart(self.rank * part, part, size)

    def heads(self, heads: int, head_dim: int) -> ShardPart:
        """This rank's rows of q, k or v; with fewer KV heads than ranks several ranks share a head."""
        mine = max(heads // self.ranks, 1)
        return ShardPart(self.rank * heads // self.ranks * head_dim, mine * head_dim, heads * head_dim)

    def columns(self, size: int) -> ShardPart:
        """This rank's part of the vocabulary, rounded up, so that the last part may extend beyond the end."""
        part = -(-size // self.ranks)
        return ShardPart(self.rank * part, part, size)


def rows_of(whole: Tensor, part: ShardPart) -> Tensor:
    """The rows of a part; those beyond the end are zero."""
    rows = whole[part.begin : part.begin + part.size]
    missing = part.size - len(rows)
    return rows if not missing else torch.cat((rows, rows.new_zeros((missing, *rows.shape[1:]))))
