"""The decoder's kernels on the CPU: compiled code over preallocated buffers."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine.forward.decoder_program import Buffers, DecoderProgram
from engine.kernels import attention_kernel as attention
from engine.kernels import row_kernels as row
from engine.kernels.compiled import row_code
from engine.memory.kv_pool import KvPool
from engine.model.model_config import ModelConfig
from engine.scheduling.batch import Batch
from engine.weights.decoder_weights import LayerWeights, Weights
from engine.weights.mlp import gated

# Below this many multiply-adds (or elements) waking a second thread costs more than it saves.
_TEAM_THRESHOLD = 200_000
_TILE_ROWS = 32


class CpuKernels:
    """Needs head_dim, block size and intermediate size in multiples of 16, and a pool with transposed keys."""

    def __init__(
        self,
        config: ModelConfig,
        pool: KvPool,
        rotations: Sequence[tuple[Tensor, Tensor]],
        *,
        dtype: torch.dtype,
        max_rows: int,
        threads: int,
    ) -> None:
        """`max_rows`: rows of the buffers, which grow for a larger batch."""
        self._config = config
        self._pool = pool
        self._rotations = rotations
        self._dtype = dtype
        self._threads = threads
        self._code = row_code(half=dtype == torch.bfloat16, paged=str(pool.dtype).removeprefix("torch."))
        self._tile_tokens = max(1, _TILE_ROWS // (config.heads // config.kv_heads))
        self._floats = np.array([config.query_scale, config.rms_eps], np.float32)
        self._counter = np.zeros(1, np.int64)
        self._counter_at = int(self._counter.ctypes.data)
        self._norm_arguments = np.zeros(row.ARGUMENTS, np.int64)
        self._gate_arguments = np.zeros(row.ARGUMENTS, np.int64)
        self._attention_arguments = np.zeros((config.layers, attention.ARGUMENTS), np.int64)
        self._allocate(max_rows)
        self._fill_arguments()

    @staticmethod
    def unfit(config: ModelConfig, block_size: int, device: torch.device, dtype: torch.dtype) -> str | None:
        """Why these kernels do not support the model; None: they do."""
        if device.type != "cpu" or dtype not in {torch.float32, torch.bfloat16}:
            return f"the compiled kernels do not compute in {dtype} on {device.type}"
        if config.rotary_dim != config.head_dim:
            return "only a part of each head is rotated"
        if config.score_cap:
            return "attention scores are capped"
        sizes = {
            "head_dim": config.head_dim,
            "intermediate_size": config.intermediate_size,
            "kv.block_size": block_size,
        }
        return next((f"{name} {size} is no multiple of 16" for name, size in sizes.items() if size % 16), None)

    def _allocate(self, rows: int) -> None:
        """Allocate buffers for `rows` rows, zeroed so that padding rows are finite."""
        config, dtype = self._config, self._dtype
        self._max_rows = rows
        self._program: tuple[Weights, DecoderProgram | None] | None = None
        self._residual = torch.zeros((rows, config.hidden_size), dtype=torch.float32)
        self._normed = torch.zeros((rows, config.hidden_size), dtype=dtype)
        self._attended = torch.zeros((rows, config.heads * config.head_dim), dtype=dtype)
        self._gated = torch.zeros((rows, config.intermediate_size), dtype=dtype)
        self._positions = np.zeros(rows, np.int64)
        self._slots = np.zeros(rows, np.int64)
        # There are at most `rows` tiles, since each has at least one row.
        self._tile_sequences = np.zeros(rows, np.int32)
        self._tile_firsts = np.zeros(rows, np.int32)

    def _fill_arguments(self) -> None:
        """Write the constant arguments into the argument blocks."""
        config, pool = self._config, self._pool
        floats = attention.scratch_floats(
            self._tile_tokens * (config.heads // config.kv_heads), config.head_dim, pool.block_size
        )
        floats = -(-floats // 32) * 32  # a cache line is not shared by threads
        self._scratch = np.zeros(self._threads * floats, np.float32)
        blocks = self._attention_arguments
        for place, value in {
            attention.OUT: self._attended.data_ptr(),
            attention.POSITIONS: self._positions.ctypes.data,
            attention.SLOTS: self._slots.ctypes.data,
            attention.TILE_SEQUENCES: self._tile_sequences.ctypes.data,
            attention.TILE_FIRSTS: self._tile_firsts.ctypes.data,
            attention.TILE_TOKENS: self._tile_tokens,
            attention.COUNTER: self._counter_at,
            attention.HEADS: config.heads,
            attention.KV_HEADS: config.kv_heads,
            attention.HEAD_DIM: config.head_dim,
            attention.BLOCK_SIZE: pool.block_size,
            attention.SCRATCH: self._scratch.ctypes.data,
            attention.SCRATCH_FLOATS: floats,
            attention.FLOATS: self._floats.ctypes.data,
        }.items():
            blocks[:, place] = value
        for layer in range(config.layers):
            blocks[layer, attention.KEYS] = pool.keys[layer].data_ptr()
            blocks[layer, attention.VALUES] = pool.values[layer].data_ptr()
            if pool.key_scales is not None and pool.value_scales is not None:
                blocks[layer, attention.KEY_SCALES] = pool.key_scales[layer].data_ptr()
                blocks[layer, attention.VALUE_SCALES] = pool.value_scales[layer].data_ptr()
            blocks[layer, attention.COS] = self._rotations[layer][0].data_ptr()
            blocks[layer, attention.SIN] = self._rotations[layer][1].data_ptr()
            blocks[layer, attention.WINDOW] = config.windows[layer]
        self._block_addresses = [block.ctypes.data for block in blocks]
        for arguments, width, out in (
            (self._norm_arguments, config.hidden_size, self._normed),
            (self._gate_arguments, config.intermediate_size, self._gated),
        ):
            arguments[row.WIDTH] = width
            arguments[row.OUT] = out.data_ptr()
        self._norm_arguments[row.RESIDUAL] = self._residual.data_ptr()
        self._norm_arguments[row.EPS] = self._floats[1:].ctypes.data
        self._norm_address = self._norm_arguments.ctypes.data
        self._gate_address = self._gate_arguments.ctypes.data

    def prepare(self, batch: Batch, rows: int) -> None:
        """See `Kernels.prepare`; writes the step's arguments into the argument blocks of all layers."""
        tokens = len(batch.token_ids)
        if rows > self._max_rows:
            self._allocate(rows)
            self._fill_arguments()
        config = self._config
        self._rows = rows
        self._x = self._normed[:rows]
        self._out = self._attended[:rows]
        self._y = self._gated[:rows]
        self._positions[:tokens] = batch.positions
        self._slots[:tokens] = batch.slots
        # Compiled code reads these by address, so dtypes must match and the arrays must live until the step ends.
        self._held = tuple(
            np.ascontiguousarray(array, np.int32)
            for array in (batch.query_starts, batch.context_lens, batch.block_tables)
        )
        lengths = np.diff(batch.query_starts)
        counts = -(-lengths // self._tile_tokens)
        tiles = int(counts.sum())
        self._tile_sequences[:tiles] = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        self._tile_firsts[:tiles] = (np.arange(tiles) - before) * self._tile_tokens
        work = 2 * int((lengths * batch.context_lens.astype(np.int64)).sum()) * config.heads * config.head_dim
        self._attention_parts = self._parts(work)
        addresses = (array.ctypes.data for array in self._held)
        step = (tokens, tiles, self._attention_parts, *addresses, batch.block_tables.shape[1])
        self._attention_arguments[:, : len(step)] = step
        self._norm_arguments[row.ROWS] = self._gate_arguments[row.ROWS] = rows
        self._norm_arguments[row.PARTS] = self._parts(2 * rows * config.hidden_size)
        self._gate_arguments[row.PARTS] = self._parts(4 * rows * config.intermediate_size)

    def start(self, embedded: Tensor) -> None:
        self._residual[: self._rows].copy_(embedded)

    def _parts(self, work: int) -> int:
        return self._threads if work >= _TEAM_THRESHOLD else 1

    def layers(self, weights: Weights) -> Tensor | None:
        program = self._program_of(weights)
        return None if program is None else program.run(self._rows)

    def logits(self, weights: Weights) -> Tensor | None:
        program = self._program_of(weights)
        return None if program is None else program.run_to_logits(self._rows)

    def _program_of(self, weights: Weights) -> DecoderProgram | None:
        """The program of the first weights that were run; None for others, such as those with adapters."""
        if self._program is None:
            buffers = Buffers(
                self._normed,
                self._attended,
                self._gated,
                self._attention_arguments,
                self._norm_arguments,
                self._gate_arguments,
            )
            fits = DecoderProgram.fits(weights, self._config)
            self._program = weights, DecoderProgram(weights, self._code, buffers, self._threads) if fits else None
        known, program = self._program
        return program if known is weights else None

    def norm(self, weight: Tensor) -> Tensor:
        return self._norm(0, weight)

    def normed(self, y: Tensor, weight: Tensor) -> Tensor:
        wide = y.float()
        scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self._config.rms_eps)
        return (scaled * weight).to(self._dtype)

    def add_norm(self, y: Tensor, weight: Tensor) -> Tensor:
        return self._norm(y.data_ptr(), weight)

    def _norm(self, added: int, weight: Tensor) -> Tensor:
        arguments = self._norm_arguments
        arguments[row.ADDED] = added
        arguments[row.WEIGHT] = weight.data_ptr()
        self._code.add_norm.run(self._norm_address, int(arguments[row.PARTS]))
        return self._x

    def attend(self, index: int, layer: LayerWeights, qkv: Tensor) -> Tensor:
        arguments, address = self._attention_arguments[index], self._block_addresses[index]
        arguments[attention.QKV] = qkv.data_ptr()
        if layer.q_norm is not None and layer.k_norm is not None:
            arguments[attention.Q_NORM] = layer.q_norm.data_ptr()
            arguments[attention.K_NORM] = layer.k_norm.data_ptr()
        # A program sets counters of its own, and steps with adapters run between steps that are programs.
        arguments[attention.COUNTER] = self._counter_at
        self._counter[0] = 0
        self._code.write_kv.run(address, self._attention_parts)
        self._code.attend.run(address, self._attention_parts)
        return self._out

    def gate(self, gate_up: Tensor) -> Tensor:
        if self._config.activation != "silu":
            return gated(gate_up, self._config.activation)
        self._gate_arguments[row.GATE_UP] = gate_up.data_ptr()
        self._code.gate.run(self._gate_address, int(self._gate_arguments[row.PARTS]))
        return self._y
