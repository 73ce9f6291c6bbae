"""Choosing tokens in one pass over the logits, with noise computed on the fly (`Pick` in Triton)."""

import torch
from torch import Tensor

from engine.gpu import triton_code as code
from engine.gpu.async_copy import Chosen
from engine.sampler.token_pick import RandomDraws

_TOKENS = 2048
"""Tokens of the vocabulary per program."""


def pick_fused(logits: Tensor, draws: RandomDraws | None) -> Chosen:
    """See `Pick`. Same choices as `pick_plain`, up to the rounding of logarithms."""
    rows, vocab = logits.shape
    device = logits.device
    parts = -(-vocab // _TOKENS)
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
        BLOCK=_TOKENS,
    )
    # topk orders NaN first, so a NaN makes the margin NaN.
    tops = torch.cat((best, second), dim=1).topk(2, dim=-1).values
    token_ids = best_places.gather(1, best.argmax(1, keepdim=True)).squeeze(1)
    if draws is not None:
        chosen = drawn_places.gather(1, drawn.argmax(1, keepdim=True)).squeeze(1)
        token_ids = torch.where(draws.inverse > 0, chosen, token_ids)
    return Chosen(token_ids, tops[:, 0] - tops[:, 1])
