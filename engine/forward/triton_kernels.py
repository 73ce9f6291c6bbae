"""The decoder's kernels and the choice of tokens in Triton, for CUDA devices; on a CPU only interpreted, for tests."""

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.forward.interface import Kernels
from engine.gpu import triton_code as code
from engine.gpu.async_copy import Chosen, to_device
from engine.gpu.attention_work import Layout, WorkCounts, padded, write_work
from engine.memory.kv_pool import KvPool
from engine.model.model_config import ModelConfig
from engine.sampler.device_sampler import RandomDraws
from engine.scheduling.batch import Batch
from engine.weights.decoder_weights import LayerWeights

_TILE_FLOATS = 32 * 128
"""Elements of keys, and of values, per iteration of a program: twice as many spill registers."""
_TILE_WARPS = 8
_GATE_BLOCK = 1024
_LEAST_ROWS = 16
"""Minimum rows of a tensor core product."""
_WORKERS_A_PROCESSOR = 4
_INTERPRETED_WORKERS = 3
_PICK_TOKENS = 2048
"""Tokens of the vocabulary per program that chooses a token."""


def columns(head_dim: int) -> int:
    """Context tokens per iteration of an attention program."""
    return min(max(_TILE_FLOATS // padded(head_dim), _LEAST_ROWS), 64)


class TritonKernels(Kernels):
    """Needs a pool with untransposed keys; any head size and block size.

    All inputs of a step lie in one buffer at a fixed address, so that captured launches can be replayed.
    """

    def __init__(
        self,
        config: ModelConfig,
        pool: KvPool,
        rotations: Sequence[tuple[Tensor, Tensor]],
        *,
        dtype: torch.dtype,
        device: torch.device,
        max_rows: int,
        max_sequences: int,
        max_len: int,
    ) -> None:
        """`rotations`: cosines and sines [positions, rotary_dim / 2] per layer. `max_len`: tokens of a sequence."""
        self._config = config
        self._pool = pool
        self._rotations = [(cos.to(device), sin.to(device)) for cos, sin in rotations]
        self._dtype = dtype
        self._device = device
        heads, head_dim = config.heads, config.head_dim
        group = heads // config.kv_heads
        self._layout = layout = Layout(
            rows=max_rows,
            sequences=max_sequences,
            table_width=-(-max_len // pool.block_size),
            block_size=pool.block_size,
            group=group,
        )
        self._flat = torch.zeros(layout.total, dtype=torch.int32, device=device)
        self._tables = torch.zeros((layout.sequences, layout.table_width), dtype=torch.int32, device=device)
        self._views = dict(zip(layout.sizes, torch.split(self._flat, list(layout.sizes.values())), strict=True))
        shapes = ((layout.pieces, heads, head_dim), (layout.pieces, heads), (layout.pieces, heads))
        self._partials = [torch.zeros(shape, dtype=torch.float32, device=device) for shape in shapes]
        """Weighted sums, maxima and totals of splits."""
        self._shape = {
            "HEADS": heads,
            "KV_HEADS": config.kv_heads,
            "HEAD_DIM": head_dim,
            "DIM_BLOCK": max(padded(head_dim), _LEAST_ROWS),
        }
        self._group_block = max(padded(group), _LEAST_ROWS)
        """Rows of a decode program, which multiplies one token's query heads."""
        self._tile_group = padded(group)
        self._workers = _INTERPRETED_WORKERS
        if device.type == "cuda":
            self._workers = _WORKERS_A_PROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count
        self._no_norm = torch.empty(0, device=device)
        self._residual = torch.empty(0)
        self._counts = WorkCounts(0, 0, 0)

    def prepare(self, batch: Batch, rows: int) -> None:
        """See `Kernels.prepare`; two copies to the device for all layers."""
        # A new buffer per step, since the previous copy may still be running. torch recycles pinned memory.
        staged = torch.empty(self._layout.total, dtype=torch.int32, pin_memory=self._device.type == "cuda")
        self._counts = write_work(batch, rows, self._layout, staged.numpy())
        self._flat.copy_(staged, non_blocking=True)
        sequences, width = batch.block_tables.shape
        self._tables[:sequences, :width] = to_device(batch.block_tables, self._device)

    def _inputs(self, *names: str) -> list[Tensor]:
        return [self._views[name] for name in names]

    def start(self, embedded: Tensor) -> None:
        self._residual = embedded.float()

    def norm(self, weight: Tensor) -> Tensor:
        return self._norm(self._residual, None, weight)

    def normed(self, y: Tensor, weight: Tensor) -> Tensor:
        return self._norm(y, None, weight)

    def add_norm(self, y: Tensor, weight: Tensor) -> Tensor:
        return self._norm(self._residual, y, weight)

    def _norm(self, x: Tensor, added: Tensor | None, weight: Tensor) -> Tensor:
        rows, width = x.shape
        out = torch.empty((rows, width), dtype=self._dtype, device=self._device)
        code.add_norm[(rows,)](
            x,
            x if added is None else added,
            weight,
            out,
            width,
            self._config.rms_eps,
            ADD=added is not None,
            BLOCK=padded(width),
        )
        return out

    def attend(self, index: int, layer: LayerWeights, qkv: Tensor) -> Tensor:
        """See `Kernels.attend`; decodes and prefill tiles of one batch are computed by different kernels."""
        config, rows = self._config, len(qkv)
        keys, values = self._pool.keys[index], self._pool.values[index]
        cosines, sines = self._rotations[index]
        queries = torch.empty((rows, config.heads * config.head_dim), dtype=self._dtype, device=self._device)
        q_norm, k_norm = layer.q_norm, layer.k_norm
        code.write_kv[(rows, config.kv_heads)](
            qkv,
            queries,
            keys,
            values,
            self._no_norm if q_norm is None else q_norm,
            self._no_norm if k_norm is None else k_norm,
            cosines,
            sines,
            *self._inputs("positions", "slots"),
            config.rms_eps,
            NORM=q_norm is not None,
            ROTARY=config.rotary_dim,
            BLOCK_SIZE=self._pool.block_size,
            GROUP_BLOCK=self._tile_group,
            **self._shape,
        )
        # Padding rows are not attended to, but the following products need finite numbers.
        out = torch.zeros_like(queries)
        options = {
            "WINDOW": config.windows[index],
            "CAP": config.score_cap > 0,
            "BLOCK_SIZE": self._pool.block_size,
            "COLUMNS": columns(config.head_dim),
            "WIDE": self._device.type == "cpu",
            **self._shape,
        }
        if self._counts.tiles:
            self._attend_tiles(queries, keys, values, out, options)
        if self._counts.decodes:
            self._attend_splits(queries, keys, values, out, options)
        return out

    def _attend_tiles(
        self, queries: Tensor, keys: Tensor, values: Tensor, out: Tensor, options: dict[str, int]
    ) -> None:
        config, layout = self._config, self._layout
        code.attend_tiles[(self._counts.tiles, config.kv_heads)](
            queries,
            keys,
            values,
            out,
            *self._inputs("starts", "contexts"),
            self._tables,
            *self._inputs("tile_sequences", "tile_firsts"),
            layout.table_width,
            config.query_scale,
            config.score_cap,
            TILE_TOKENS=layout.tile_tokens,
            GROUP_BLOCK=self._tile_group,
            ROWS=max(layout.tile_tokens * self._tile_group, _LEAST_ROWS),
            num_warps=_TILE_WARPS,
            **options,
        )

    def _attend_splits(
        self, queries: Tensor, keys: Tensor, values: Tensor, out: Tensor, options: dict[str, int]
    ) -> None:
        config, layout = self._config, self._layout
        code.attend_splits[(self._workers,)](
            queries,
            keys,
            values,
            *self._partials,
            *self._inputs("counts", "starts", "contexts", "spans"),
            self._tables,
            *self._inputs("piece_sequences", "piece_splits"),
            layout.table_width,
            config.query_scale,
            config.score_cap,
            GROUP_BLOCK=self._group_block,
            **options,
        )
        code.join_splits[(len(queries), config.kv_heads)](
            *self._partials,
            out,
            *self._inputs("counts", "starts", "decodes", "first_pieces"),
            GROUP_BLOCK=self._group_block,
            **self._shape,
        )

    def gate(self, gate_up: Tensor) -> Tensor:
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        out = torch.empty((rows, width), dtype=gate_up.dtype, device=self._device)
        code.gate[(rows, -(-width // _GATE_BLOCK))](
            gate_up, out, width, GELU=self._config.activation == "gelu_tanh", BLOCK=_GATE_BLOCK
        )
        return out


def pick_fused(logits: Tensor, draws: RandomDraws | None) -> Chosen:
    """See `Pick`. One pass over the logits; the same choices as `pick_plain`, up to the rounding of logarithms."""
    rows, vocab = logits.shape
    device = logits.device
    parts = -(-vocab // _PICK_TOKENS)
    # Separate tensors, because Triton compiles another variant for pointers with less alignment.
    best, second = (torch.empty((rows, parts), dtype=torch.float32, device=device) for _ in range(2))
    best_places, drawn_places = (torch.empty((rows, parts), dtype=torch.int64, device=device) for _ in range(2))
    drawn = torch.empty((rows, parts), dtype=torch.float64, device=device)
    code.pick_part[(rows, parts)](
        logits,
        logits if draws is None else draws.cuts,
        logits if draws is None else draws.inverse,
        logits if draws is None else draws.keys,
        best,
        second,
        best_places,
        drawn,
        drawn_places,
        vocab,
        parts,
        DRAW=draws is not None,
        BLOCK=_PICK_TOKENS,
    )
    # topk orders NaN first, so a NaN makes the margin NaN.
    tops = torch.cat((best, second), dim=1).topk(2, dim=-1).values
    token_ids = best_places.gather(1, best.argmax(1, keepdim=True)).squeeze(1)
    if draws is not None:
        chosen = drawn_places.gather(1, drawn.argmax(1, keepdim=True)).squeeze(1)
        token_ids = torch.where(draws.inverse > 0, chosen, token_ids)
    return Chosen(token_ids, tops[:, 0] - tops[:, 1])
