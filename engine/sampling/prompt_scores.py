"""How likely a prompt's own tokens are: what `echo` and `prompt_logprobs` ask for."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.errors import EngineError
from engine.scheduling.batch import ScoredToken, ScoreRows

_HEAD_ROWS = 64
"""Rows whose logits exist at once: with a vocabulary of 150,000 words 38 MB, however long the prompt is."""


def score(logits_of: Callable[[npt.NDArray[np.int64]], Tensor], asked: list[ScoreRows]) -> list[ScoredToken]:
    """One entry for each row of `asked`, in order. `logits_of` gives [len(rows), vocab] for rows of the flat batch.

    What is said of a row depends on its logits alone, not on those beside it.

    Raises:
        EngineError: a logit is NaN or infinite.
    """
    scored: list[ScoredToken] = []
    for each in asked:
        for start, rows in _pieces(each):
            targets = each.targets[start : start + len(rows)]
            scored += _score(logits_of(rows).float(), torch.tensor(targets), each.top)
    return scored


def pieces(asked: list[ScoreRows]) -> Iterator[npt.NDArray[np.int64]]:
    """The rows of each call that `score` makes, in order: for whoever has to call with it."""
    for each in asked:
        for _, rows in _pieces(each):
            yield rows


def _pieces(each: ScoreRows) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    for start in range(0, len(each.targets), _HEAD_ROWS):
        yield start, each.row + np.arange(start, min(start + _HEAD_ROWS, len(each.targets)))


def _score(logits: Tensor, targets: Tensor, top: int) -> list[ScoredToken]:
    logprobs = logits.log_softmax(-1)
    own = logprobs.gather(1, targets.to(logits.device).unsqueeze(1))
    if not bool(own.isfinite().all()):
        raise EngineError(
            "bad_logits",
            'the model computed NaN or infinite logits; check its weights, or load it with dtype = "float32"',
        )
    ranks = (logprobs > own).sum(-1) + 1
    best = logprobs.topk(min(top, logits.shape[1]), dim=-1)
    columns = (targets, own.squeeze(1), ranks, best.indices, best.values)
    return [
        ScoredToken(target, logprob, rank, tuple(zip(ids, values, strict=True)))
        for target, logprob, rank, ids, values in zip(*(column.tolist() for column in columns), strict=True)
    ]
