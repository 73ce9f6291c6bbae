"""How large the KV pools of engines that share a memory are: values in, sizes out."""

from collections.abc import Mapping

import msgspec

from engine.model.model_config import ModelConfig

SCALE_BYTES = 4


class KvDemand(msgspec.Struct, frozen=True):
    """One engine that is to have a pool."""

    weight_bytes: int
    token_bytes: int
    """KV of one token, all layers."""
    block_size: int
    max_tokens: int
    """As many as its sequences could ever hold at once: a larger pool would be of no use."""
    stated_bytes: int = 0
    """0: as it comes out."""
    adapter_bytes: int = 0
    """Of adapters that are loaded beside the weights, and of those that may be."""

    @property
    def most(self) -> int:
        """Bytes of the largest pool that is of any use; one block is scratch."""
        block = self.token_bytes * self.block_size
        return (-(-self.max_tokens // self.block_size) + 1) * block


def kv_token_bytes(config: ModelConfig, width: int) -> int:
    """KV of one token, all layers, in numbers of so many bytes; those of one byte have a scale for each head."""
    return 2 * config.layers * config.kv_heads * (config.head_dim * width + (SCALE_BYTES if width == 1 else 0))


def kv_sizes(free_bytes: int, share: float, demands: Mapping[str, KvDemand]) -> dict[str, int]:
    """Bytes of each engine's pool, of `free_bytes` that are free before anything is loaded.

    Weights, adapters and stated pools are taken first. A `share` of what is left goes in equal parts to the engines
    that state nothing; who needs less leaves the difference to the others. Where nothing is left, the size is 0.
    """
    taken = sum(demand.weight_bytes + demand.adapter_bytes + demand.stated_bytes for demand in demands.values())
    room = max(int((free_bytes - taken) * share), 0)
    sizes = {name: demand.stated_bytes for name, demand in demands.items()}
    asking = sorted((demand.most, name) for name, demand in demands.items() if not demand.stated_bytes)
    for place, (most, name) in enumerate(asking):
        sizes[name] = min(most, room // (len(asking) - place))
        room -= sizes[name]
    return sizes
