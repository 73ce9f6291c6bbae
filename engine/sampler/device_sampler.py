"""Sampling on the device: the same tokens as `engine.sampler.sampler`, without copying logits to the host.

Only for rows that need nothing from the host (see `chosen_by_device`): greedy rows, and random draws with min_p, top_k
and top_p. The noise is that of `engine.sampler.noise`, with the same keys.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.gpu.async_copy import Chosen, to_device
from engine.sampler.logit_rules import GREEDY_BELOW
from engine.sampler.noise import stream_key
from engine.scheduling.batch import SampleRow

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


def choose(logits: Tensor, rows: list[SampleRow], pick: Pick) -> Chosen:
    """A token for each row of `logits` [len(rows), vocab]."""
    device = logits.device
    params = [row.params for row in rows]
    inverse = np.array([0.0 if it.temperature < GREEDY_BELOW else 1.0 / it.temperature for it in params])
    if not inverse.any():
        return pick(logits, None)
    pairs = [(np.uint64(row.seed & (2**64 - 1)), np.uint64(row.position)) for row in rows]
    keys = np.array([stream_key(seed, position) for seed, position in pairs], np.uint64)
    scales = to_device(inverse, device)
    return pick(
        logits, RandomDraws(scales, _cuts(logits.float(), rows, scales), to_device(keys.view(np.int64), device))
    )


def _cuts(logits: Tensor, rows: list[SampleRow], inverse: Tensor) -> Tensor:
    """[rows] float32: the least logit that each row's filters keep; see `engine.sampler.logit_rules.tail_cut`."""
    device, vocab = logits.device, logits.shape[1]
    params = [row.params for row in rows]
    cuts = torch.full((len(rows),), -torch.inf, device=device)
    if any(it.min_p > 0 for it in params):
        below = [math.log(it.min_p) * it.temperature if it.min_p > 0 else -math.inf for it in params]
        cuts = logits.amax(-1) + to_device(np.array(below, np.float32), device)
    largest = max(it.top_k if it.top_k < vocab else 0 for it in params)
    if largest:
        ks = np.array([it.top_k if 0 < it.top_k < vocab else 0 for it in params])
        places = to_device(np.maximum(ks - 1, 0), device).unsqueeze(1)
        best = logits.topk(largest, dim=-1).values.gather(1, places).squeeze(1)
        cuts = torch.where(to_device(ks > 0, device), torch.maximum(cuts, best), cuts)
    if any(it.top_p < 1 for it in params):
        # top_p: probability mass of the tokens that the other filters keep, accumulated from the most probable on.
        ordered = logits.sort(dim=-1, descending=True).values
        mass = ((ordered - ordered[:, :1]).double() * inverse.unsqueeze(1)).exp()
        mass = mass.masked_fill(ordered < cuts.unsqueeze(1), 0.0).cumsum(-1)
        wanted = to_device(np.array([it.top_p for it in params]), device).unsqueeze(1) * mass[:, -1:]
        last = (mass < wanted).sum(-1, keepdim=True).clamp(max=vocab - 1)
        filtered = to_device(np.array([it.top_p < 1 for it in params]), device)
        cuts = torch.where(filtered, torch.maximum(cuts, ordered.gather(1, last).squeeze(1)), cuts)
    return cuts


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
