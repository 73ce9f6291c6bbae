"""Batch-invariant computation in plain torch: all work on rows in tiles of one shape (`batch_invariant`).

Libraries choose algorithms by the number of rows, and these round differently. With tiles of constant shape the
algorithm is always the same, so that a row's result depends on the row only.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from engine.errors import ModelError

_CPU_ROWS = 16
_DEVICE_ROWS = 64
"""A device bound by memory computes this many rows in the time of one."""
KEYS = 128
"""Keys per tile of attention; a multiple of either number of rows."""


def tile_rows(device: torch.device) -> int:
    """Rows per tile."""
    return _CPU_ROWS if device.type == "cpu" else _DEVICE_ROWS


def in_tiles(function: Callable[[Tensor], Tensor], x: Tensor, rows: int) -> Tensor:
    """Apply the row-wise `function` to `x` [any, …] in tiles of `rows`, zero-padded at the end; 0: without tiles."""
    if not rows:
        return function(x)
    count = len(x)
    missing = -count % rows
    if missing:
        x = torch.cat((x, x.new_zeros((missing, *x.shape[1:]))))
    return torch.cat([function(x[start : start + rows]) for start in range(0, len(x), rows)])[:count]


def check_places(product: Callable[[Tensor], Tensor], weight: Tensor, rows: int) -> None:
    """Check that a row's product with `weight` [out, in] does not depend on its place in a tile.

    Raises ModelError: it does, on this device.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((rows, weight.shape[1]), generator=generator).to(weight)
    first = product(x)[0]
    for place in {1, rows // 2, rows - 1}:
        if not torch.equal(product(x.roll(place, 0))[place], first):
            raise ModelError(
                "batch_invariant",
                f"batch_invariant cannot be had here: on {weight.device} a product with {list(weight.shape)} depends "
                "on a row's place; leave it out, or choose another device or dtype",
            )


def attend(  # noqa: PLR0917
    q: Tensor, keys: Tensor, values: Tensor, first: int, window: int, scale: float, cap: float, rows: int
) -> Tensor:
    """Attention of `q` [new, heads, head_dim] from position `first` on; keys, values [kv_heads, context, head_dim].

    Tiles begin at multiples of their size, so a query has the same neighbours in every chunking; maximum and sum are
    carried from tile to tile of keys (Milakov and Gimelshein, "Online normalizer calculation for softmax", section 3).
    A tile of keys that a query does not attend to changes none of its bits. `window`, `cap`: see `ModelConfig`; 0:
    none.
    """
    new, heads, head_dim = q.shape
    kv_heads, context, _ = keys.shape
    groups = heads // kv_heads
    missing = -context % KEYS
    padding = keys.new_zeros((kv_heads, missing, head_dim))
    keys, values = torch.cat((keys, padding), dim=1), torch.cat((values, padding), dim=1)
    before = first % rows
    whole = q.new_zeros((-(-(before + new) // rows) * rows, heads, head_dim))
    whole[before : before + new] = q
    out = []
    for row in range(0, len(whole), rows):
        tile, start = whole[row : row + rows], first - before + row
        at = torch.arange(start, start + rows, device=q.device).repeat(groups).unsqueeze(1)
        mine = (
            tile.view(rows, kv_heads, groups, head_dim).permute(1, 2, 0, 3).reshape(kv_heads, groups * rows, head_dim)
        )
        best = mine.new_full((kv_heads, groups * rows, 1), -1e30)
        total, sums = torch.zeros_like(best), torch.zeros_like(mine)
        for number in range(max(start - window + 1, 0) // KEYS if window else 0, (start + rows - 1) // KEYS + 1):
            page = slice(number * KEYS, (number + 1) * KEYS)
            scores = torch.bmm(mine, keys[:, page].transpose(1, 2).contiguous()) * scale
            if cap:
                scores = torch.tanh(scores / cap) * cap
            seen = torch.arange(number * KEYS, (number + 1) * KEYS, device=q.device).unsqueeze(0)
            hidden = seen > at
            if window:
                hidden |= seen <= at - window
            scores = scores.masked_fill(hidden, -1e30)
            higher = torch.maximum(best, scores.amax(-1, keepdim=True))
            weights = (scores - higher).exp().masked_fill(hidden, 0.0)
            faded = (best - higher).exp()
            total = total * faded + weights.sum(-1, keepdim=True)
            sums = sums * faded + torch.bmm(weights, values[:, page].contiguous())
            best = higher
        done = (sums / total.clamp_min(1e-30)).view(kv_heads, groups, rows, head_dim)
        out.append(done.permute(2, 0, 1, 3).reshape(rows, heads, head_dim))
    return torch.cat(out)[before : before + new]
