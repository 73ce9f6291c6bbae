"""Choosing tokens in plain torch: works on every device, but materializes the noise [rows, vocab]."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from engine.gpu.async_copy import Chosen

_GOLDEN = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


class RandomDraws(NamedTuple):
    """Parameters of random rows: argmax of logit / temperature + noise among the logits >= `cuts`."""

    inverse: Tensor
    """[rows] float64: 1 / temperature; 0 for greedy rows."""
    cuts: Tensor
    """[rows] float32"""
    keys: Tensor
    """[rows] int64: the bits of `engine.sampler.noise.stream_key`."""


Pick = Callable[[Tensor, RandomDraws | None], Chosen]
"""Logits [rows, vocab] → a token for each row; None: all rows are greedy."""


def pick_plain(logits: Tensor, draws: RandomDraws | None) -> Chosen:
    """See `Pick`."""
    logits = logits.float()
    best = logits.topk(2, dim=-1)
    # The sum is NaN if any logit is not finite, and 0 otherwise, so that the margin carries the check.
    margins = best.values[:, 0] - best.values[:, 1] + (logits * 0).sum(-1)
    token_ids = best.indices[:, 0]
    if draws is not None:
        token_ids = torch.where(draws.inverse > 0, _draw(logits, draws), token_ids)
    return Chosen(token_ids, margins)


def _draw(logits: Tensor, draws: RandomDraws) -> Tensor:
    """[rows] int64. Signed multiplication wraps as unsigned does; `_shifted` is a logical shift."""
    tokens = torch.arange(logits.shape[1], dtype=torch.int64, device=logits.device)
    bits = draws.keys.unsqueeze(1) + tokens * _signed(_GOLDEN)
    for shift, factor in _MIX:
        bits = (bits ^ _shifted(bits, shift)) * _signed(factor)
    noise = -torch.log(-torch.log((_shifted(bits, 11).double() + 0.5) * 2.0**-53))
    values = logits.double() * draws.inverse.unsqueeze(1) + noise
    return values.masked_fill(logits < draws.cuts.unsqueeze(1), -torch.inf).argmax(-1)


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _shifted(bits: Tensor, by: int) -> Tensor:
    return (bits >> by) & ((1 << (64 - by)) - 1)
