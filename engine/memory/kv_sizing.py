"""How engines that share one memory divide it into KV pools. Pure."""

from collections.abc import Mapping

import msgspec

from engine.model.model_config import ModelConfig

SCALE_BYTES = 4


class KvDemand(msgspec.Struct, frozen=True):
    """What one engine needs and wants."""

    weight_bytes: int
    token_bytes: int
    """KV bytes of one token, all layers."""
    block_size: int
    max_tokens: int
    """Tokens that `max_running` sequences of maximum length hold: a larger pool is never used."""
    stated_bytes: int = 0
    """Pool size from the settings; 0: computed here."""
    adapter_bytes: int = 0
    """Memory of adapters that are loaded, or may be later."""

    @property
    def max_bytes(self) -> int:
        """Bytes of the largest useful pool, scratch block included."""
        block = self.token_bytes * self.block_size
        return (-(-self.max_tokens // self.block_size) + 1) * block


def kv_token_bytes(config: ModelConfig, width: int) -> int:
    """KV bytes of one token, all layers, with elements of `width` bytes; int8 adds a float32 scale per head."""
    return 2 * config.layers * config.kv_heads * (config.head_dim * width + (SCALE_BYTES if width == 1 else 0))


def kv_sizes(free_bytes: int, share: float, demands: Mapping[str, KvDemand]) -> dict[str, int]:
    """Bytes of each engine's pool, given `free_bytes` before anything is loaded.

    Weights, adapters and stated pools are subtracted first. `share` of the remainder is divided equally between the
    engines without a stated size; what one does not need goes to the others. 0 if nothing remains.
    """
    reserved = sum(demand.weight_bytes + demand.adapter_bytes + demand.stated_bytes for demand in demands.values())
    room = max(int((free_bytes - reserved) * share), 0)
    sizes = {name: demand.stated_bytes for name, demand in demands.items()}
    auto_sized = sorted((demand.max_bytes, name) for name, demand in demands.items() if not demand.stated_bytes)
    for place, (max_bytes, name) in enumerate(auto_sized):
        sizes[name] = min(max_bytes, room // (len(auto_sized) - place))
        room -= sizes[name]
    return sizes
