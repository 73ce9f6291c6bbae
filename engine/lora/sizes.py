"""Estimate the memory of adapters before loading them, from the shapes in a folder or from a rank."""

from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from engine.lora.deltas import products_of, stacked_rank
from engine.lora.peft_folder import TENSORS, module_of
from engine.model.model_config import ModelConfig

_SCALE_BYTES = 4


def folder_bytes(config: ModelConfig, directory: Path, width: int) -> int:
    """Bytes of an adapter with elements of `width` bytes; 0 if it cannot be read (loading it reports the error)."""
    ranks = {}
    try:
        with safe_open(directory / TENSORS, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dictionary
                if (module := module_of(name)) is not None:
                    ranks[module] = file.get_slice(name).get_shape()[0]
    except (OSError, SafetensorError):
        return 0
    return _bytes(config, width, lambda module: ranks.get(module, 0))


def largest_bytes(config: ModelConfig, rank: int, width: int) -> int:
    """Bytes of an adapter of `rank` that changes every supported product."""
    return _bytes(config, width, lambda _: rank)


def _bytes(config: ModelConfig, width: int, rank_of: Callable[[str], int]) -> int:
    products = [product for layer in range(config.layers) for product in products_of(config, layer).values()]
    ranks = [stacked_rank([rank_of(module) for module in product.parts]) for product in products]
    sizes = [(product.inputs + sum(product.parts.values())) * width + _SCALE_BYTES for product in products]
    return sum(rank * size for rank, size in zip(ranks, sizes, strict=True))
