"""Low-rank deltas on the decoder's fused products, applied to the rows of a batch that use an adapter.

A batch can use many adapters: the rows of one adapter are contiguous, and y[rows] += scale · B(A(x[rows])). The result
of a row does not depend on other rows. Rows without an adapter run through the base product only.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from engine.lora.adapters import AdapterRows, PreparedAdapter
from engine.lora.peft_folder import LoraModule, read_peft_folder
from engine.model.model_config import ModelConfig
from engine.threads import one_thread
from engine.weights.decoder_weights import LayerWeights, Weights, gate_up_parts, qkv_parts
from engine.weights.linear import Linear, LinearFactory
from engine.weights.mlp import Dense, Mlp

Deltas = tuple[dict[str, "LoraDelta"], ...]
"""Per layer, by product (a key of `products_of`); products that the adapter does not change are absent."""


class Product(NamedTuple):
    """One fused product of a layer, with the names of the modules it consists of."""

    parts: Mapping[str, int]
    """Outputs of each module by name, in the order of the product."""
    inputs: int


def products_of(config: ModelConfig, layer: int) -> dict[str, Product]:
    """The products of a layer that adapters may change, by name. Experts are not among them."""
    attention, mlp = f"model.layers.{layer}.self_attn", f"model.layers.{layer}.mlp"
    hidden = config.hidden_size
    products = {
        "qkv": Product(qkv_parts(config, attention), hidden),
        "o": Product({f"{attention}.o_proj": hidden}, config.heads * config.head_dim),
    }
    if config.experts is None or not config.experts.layers[layer]:
        products["gate_up"] = Product(gate_up_parts(config, mlp), hidden)
        products["down"] = Product({f"{mlp}.down_proj": hidden}, config.intermediate_size)
    return products


def stacked_rank(ranks: Sequence[int]) -> int:
    """Rows of the A matrices of one product stacked together, padded to an even number, which the products need."""
    return sum(ranks) + sum(ranks) % 2


class AdapterReader:
    """Prepares adapters for one model. Shares no mutable state with the runner, so any thread may call it."""

    def __init__(self, config: ModelConfig, linears: LinearFactory, *, max_rank: int) -> None:
        self._linears = linears
        self._max_rank = max_rank
        self._layers = [products_of(config, layer) for layer in range(config.layers)]

    def read(self, directory: Path) -> PreparedAdapter:
        """Read an adapter from a PEFT folder. Raises ModelError."""
        shapes = {
            module: (outputs, product.inputs)
            for products in self._layers
            for product in products.values()
            for module, outputs in product.parts.items()
        }
        folder = read_peft_folder(directory, shapes, self._max_rank)
        linears = self._linears.with_own_arena()
        with torch.inference_mode(), one_thread():
            deltas = tuple(
                {
                    name: self._delta(product, folder.modules, linears)
                    for name, product in products.items()
                    if any(module in folder.modules for module in product.parts)
                }
                for products in self._layers
            )
        size = sum(delta.memory_bytes for layer in deltas for delta in layer.values())
        return PreparedAdapter(folder.digest, folder.rank, size, deltas)

    def _delta(self, product: Product, modules: Mapping[str, LoraModule], linears: LinearFactory) -> "LoraDelta":
        """Stack the A matrices of the product's modules; place their B matrices block-diagonally."""
        present = [modules.get(module) for module in product.parts]
        ranks = [0 if module is None else len(module.down) for module in present]
        rank = stacked_rank(ranks)
        down = torch.zeros((rank, product.inputs), dtype=linears.dtype)
        up = torch.zeros((sum(product.parts.values()), rank), dtype=linears.dtype)
        scales = torch.zeros(rank)
        row = column = 0
        for module, outputs, size in zip(present, product.parts.values(), ranks, strict=True):
            if module is not None:
                down[column : column + size] = module.down
                up[row : row + outputs, column : column + size] = module.up
                scales[column : column + size] = module.scale
            row += outputs
            column += size
        return LoraDelta(down, scales, up, linears)


class LoraDelta:
    """scale · B(A(x)) for one fused product. Sums are float32; A(x) is rounded to the compute dtype."""

    def __init__(self, down: Tensor, scales: Tensor, up: Tensor, linears: LinearFactory) -> None:
        """`down` [rank, in] and `up` [out, rank] in the compute dtype, `scales` [rank] float32."""
        self.memory_bytes = sum(tensor.numel() * tensor.element_size() for tensor in (down, scales, up))
        self._dtype = down.dtype
        self._pad_single = not (linears.own or linears.tile)
        self._down = linears.make(down, head=True)
        self._scales = scales.to(linears.device)
        self._up = linears.make(up, head=True)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add the delta to `y` [rows, out] in place; `x` is [rows, in]."""
        rows = len(x)
        if rows == 1 and self._pad_single:
            x = torch.cat((x, x))
        low = (self._down(x).float() * self._scales).to(self._dtype)
        y += self._up(low)[:rows]


_Groups = list[tuple[int, int, Deltas]]
"""Which rows (start, end) of the current step use which deltas."""


class _Adapted:
    """A base product plus the adapters' deltas."""

    def __init__(self, base: Linear, groups: _Groups, layer: int, product: str) -> None:
        self._base = base
        self._groups = groups
        self._layer = layer
        self._product = product

    def __call__(self, x: Tensor) -> Tensor:
        y = self._base(x)
        for start, end, layers in self._groups:
            delta = layers[self._layer].get(self._product)
            if delta is not None:
                delta.add(x[start:end], y[start:end])
        return y


class AdaptedWeights:
    """A decoder's weights with adapters applied; the tensors are shared, not copied."""

    def __init__(self, weights: Weights) -> None:
        self._groups: _Groups = []
        layers = [self._layer(index, layer) for index, layer in enumerate(weights.layers)]
        self._weights = weights._replace(layers=tuple(layers))

    def _layer(self, index: int, layer: LayerWeights) -> LayerWeights:
        def adapted(base: Linear, product: str) -> Linear:
            return _Adapted(base, self._groups, index, product)

        mlp: Mlp = layer.mlp
        if isinstance(mlp, Dense):
            mlp = Dense(adapted(mlp.gate_up, "gate_up"), adapted(mlp.down, "down"))
        return layer._replace(qkv=adapted(layer.qkv, "qkv"), o=adapted(layer.o, "o"), mlp=mlp)

    @contextmanager
    def on(self, rows: Sequence[AdapterRows]) -> Iterator[Weights]:
        """The weights for one step; afterwards no reference to an adapter is kept."""
        self._groups[:] = [(group.start, group.end, group.adapter.prepared.numbers) for group in rows]
        try:
            yield self._weights
        finally:
            self._groups.clear()
