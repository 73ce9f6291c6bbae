"""A decoder as one program: all kernels of a step run in sequence by one call, without Python in between."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.kernels import attention_kernel as attention
from engine.kernels import product_kernel as product
from engine.kernels import program_kernel as program
from engine.kernels import row_kernels as row
from engine.kernels.compiled import Kernel, RowCode, program_code
from engine.kernels.packed_product import PackedProduct
from engine.model.model_config import ModelConfig
from engine.weights.decoder_weights import LayerWeights, Weights
from engine.weights.linear import Linear
from engine.weights.mlp import Dense

# Multiply-adds from which waking the thread team pays. Up to four rows count as four: there reading weights dominates.
_TEAM_THRESHOLD = 4_000_000
_MAX_LOGIT_ROWS = 64
"""Rows for which logits are preallocated. For more, the head runs outside of the program, at negligible extra cost."""

Block = program.Arguments


class Buffers(NamedTuple):
    """Buffers of a step, [rows, …] in the compute dtype."""

    normed: Tensor
    attended: Tensor
    gated: Tensor
    attention_blocks: Block
    """[layers, …], see `engine.kernels.attention_kernel`."""
    norm_block: Block
    gate_block: Block


class DecoderProgram:
    """Built once for given weights and buffers; reads the step's arguments from the attention blocks."""

    def __init__(self, weights: Weights, code: RowCode, buffers: Buffers, threads: int) -> None:
        """`fits` must hold for the weights."""
        self._buffers = buffers
        self._code = code
        self._threads = threads
        rows, hidden = buffers.normed.shape
        first = weights.layers[0]
        self._qkv = self._buffer(rows, first.qkv)
        self._gate_up = self._buffer(rows, first.mlp.gate_up) if isinstance(first.mlp, Dense) else buffers.normed
        self._added = torch.zeros((rows, hidden), dtype=buffers.normed.dtype)
        self._counters = np.zeros((len(weights.layers), 8), np.int64)  # one cache line each
        self._counter_addresses = [int(counter.ctypes.data) for counter in self._counters]
        self._blocks: list[Block] = [buffers.gate_block]
        self._products: list[Block] = []
        buffers.gate_block[row.GATE_UP] = self._gate_up.data_ptr()
        following = [*(layer.input_norm for layer in weights.layers[1:]), weights.final_norm]
        table = [self._norm(first.input_norm, None)]
        for index, layer in enumerate(weights.layers):
            table += self._layer(index, layer, following[index])
        self._layers = len(table)
        self._logits: Tensor | None = None
        if isinstance(weights.head, PackedProduct):
            vocab = int(weights.head.arguments[product.OUTPUTS])
            self._logits = torch.zeros((min(rows, _MAX_LOGIT_ROWS), vocab), dtype=torch.float32)
            table.append(self._product(weights.head, buffers.normed, self._logits))
        for block, following_product in zip(self._products, self._products[1:], strict=False):
            block[product.NEXT] = following_product[product.PANELS]
            block[product.NEXT_BYTES] = following_product[product.PANEL_BYTES]
        self._table = np.array(table, np.int64)
        self._arguments = arguments = np.zeros(program.ARGUMENTS, np.int64)
        self._address = int(arguments.ctypes.data)
        arguments[program.TABLE] = self._table.ctypes.data
        arguments[program.ARRIVED_AT] = self._address + 8 * program.ARRIVED
        self._program = program_code()
        self._multiply_adds = sum(
            int(linear.arguments[product.INPUTS] * linear.arguments[product.OUTPUTS])
            for layer in weights.layers
            for linear in _products(layer)
            if isinstance(linear, PackedProduct)
        )

    @staticmethod
    def fits(weights: Weights, config: ModelConfig) -> bool:
        """Whether every part of a layer is a compiled kernel."""
        return config.activation == "silu" and all(
            isinstance(layer.mlp, Dense)
            and layer.after_attention is None
            and layer.after_mlp is None
            and all(isinstance(linear, PackedProduct) for linear in _products(layer))
            for layer in weights.layers
        )

    def run(self, rows: int) -> Tensor:
        """The normed output [rows, hidden] of the last layer; a view of a buffer."""
        self._run(rows, self._layers)
        return self._buffers.normed[:rows]

    def run_to_logits(self, rows: int) -> Tensor | None:
        """The logits [rows, vocab] of every row; a view of a buffer. None: too many rows."""
        if self._logits is None or rows > len(self._logits):
            return None
        self._run(rows, self._layers + 1)
        return self._logits[:rows]

    def _run(self, rows: int, kernels: int) -> None:
        threads = self._threads if self._multiply_adds * max(rows, 4) >= _TEAM_THRESHOLD else 1
        buffers = self._buffers
        buffers.attention_blocks[:, attention.QKV] = self._qkv.data_ptr()
        buffers.attention_blocks[:, attention.COUNTER] = self._counters.ctypes.data + 64 * np.arange(
            len(self._counters)
        )
        buffers.gate_block[row.GATE_UP] = self._gate_up.data_ptr()
        self._arguments[program.COUNT] = kernels
        self._arguments[program.ROWS] = rows
        self._arguments[program.ARRIVED] = 0
        self._program.run(self._address, threads)

    def _buffer(self, rows: int, linear: Linear) -> Tensor:
        assert isinstance(linear, PackedProduct)
        return torch.zeros((rows, int(linear.arguments[product.OUTPUTS])), dtype=self._buffers.normed.dtype)

    def _layer(self, index: int, layer: LayerWeights, following: Tensor) -> Iterator[tuple[int, ...]]:
        buffers, code = self._buffers, self._code
        assert isinstance(layer.mlp, Dense)
        block = buffers.attention_blocks[index]
        if layer.q_norm is not None and layer.k_norm is not None:
            block[attention.Q_NORM] = layer.q_norm.data_ptr()
            block[attention.K_NORM] = layer.k_norm.data_ptr()
        counter = self._counter_addresses[index]
        yield self._product(layer.qkv, buffers.normed, self._qkv)
        yield self._call(code.write_kv, block, parts=attention.PARTS)
        yield (*self._call(code.attend, block, parts=attention.PARTS)[:-1], counter)
        yield self._product(layer.o, buffers.attended, self._added)
        yield self._norm(layer.mlp_norm, self._added)
        yield self._product(layer.mlp.gate_up, buffers.normed, self._gate_up)
        yield self._call(code.gate, buffers.gate_block, rows=row.ROWS, parts=row.PARTS)
        yield self._product(layer.mlp.down, buffers.gated, self._added)
        yield self._norm(following, self._added)

    def _norm(self, weight: Tensor, added: Tensor | None) -> tuple[int, ...]:
        block = self._buffers.norm_block.copy()
        block[row.ADDED] = 0 if added is None else added.data_ptr()
        block[row.WEIGHT] = weight.data_ptr()
        return self._call(self._code.add_norm, block, rows=row.ROWS, parts=row.PARTS)

    def _product(self, linear: Linear, x: Tensor, out: Tensor) -> tuple[int, ...]:
        assert isinstance(linear, PackedProduct)
        block = linear.arguments.copy()
        block[product.X] = x.data_ptr()
        block[product.OUT] = out.data_ptr()
        block[product.COUNTER_AT] = block.ctypes.data + 8 * product.COUNTER
        self._products.append(block)
        return self._call(linear.code, block, rows=product.ROWS, parts=product.PARTS, counter=product.COUNTER)

    def _call(
        self,
        kernel: Kernel,
        block: Block,
        *,
        rows: int | None = None,
        parts: int | None = None,
        counter: int | None = None,
    ) -> tuple[int, ...]:
        """A row of the program's table."""
        self._blocks.append(block)  # keeps the block alive: the table holds addresses only
        at = int(block.ctypes.data)
        places = (0 if place is None else at + 8 * place for place in (rows, parts, counter))
        return (kernel.address, at, *places)


def _products(layer: LayerWeights) -> tuple[Linear, ...]:
    if not isinstance(layer.mlp, Dense):
        return (layer.qkv, layer.o)
    return (layer.qkv, layer.o, layer.mlp.gate_up, layer.mlp.down)
