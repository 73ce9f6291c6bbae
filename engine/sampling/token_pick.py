"""From logits and noise to tokens, in plain torch: right on every device, with whole tables of noise in between."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from engine.gpu.flight import Chosen

_GOLDEN = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


class RandomDraws(NamedTuple):
    """How rows are drawn: the argmax of logit / temperature + noise among the logits that are no less than `cuts`."""

    inverse: Tensor
    """[rows] float64: 1 / temperature; 0 where the row is greedy."""
    cuts: Tensor
    """[rows] float32"""
    keys: Tensor
    """[rows] int64: the bits of `engine.sampling.noise.stream_key`."""


Pick = Callable[[Tensor, RandomDraws | None], Chosen]
"""Logits [rows, vocab] → a token for each row; None: all are greedy."""


def pick_plain(logits: Tensor, draws: RandomDraws | None) -> Chosen:
    """See `Pick`."""
    logits = logits.float()
    best = logits.topk(2, dim=-1)
    # The sum is no number as soon as one of its terms is none; times 0 it is 0 otherwise.
    margins = best.values[:, 0] - best.values[:, 1] + (logits * 0).sum(-1)
    token_ids = best.indices[:, 0]
    if draws is not None:
        token_ids = torch.where(draws.inverse > 0, _draw(logits, draws), token_ids)
    return Chosen(token_ids, margins)


def _draw(logits: Tensor, draws: RandomDraws) -> Tensor:
    """[rows] int64. 64-bit integers wrap as unsigned ones do, and are shifted with zeros coming in."""
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
