"""Log-probabilities of a prompt's own tokens, for `echo` and `prompt_logprobs`."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.errors import bad_logits
from engine.scheduling.batch import ScoredToken, ScoreRows

_HEAD_ROWS = 64
"""Rows whose logits exist at the same time: 38 MB with a vocabulary of 150,000, for prompts of any length."""


def score(logits_of: Callable[[npt.NDArray[np.int64]], Tensor], requested: list[ScoreRows]) -> list[ScoredToken]:
    """One entry for each row of `requested`, in order. `logits_of` maps rows of the flat batch to [len(rows), vocab].

    The score of a row depends on its logits only, not on those of other rows. Raises EngineError: a logit is NaN or
    infinite.
    """
    scored: list[ScoredToken] = []
    for rows_of_prompt in requested:
        for start, rows in _pieces(rows_of_prompt):
            targets = rows_of_prompt.targets[start : start + len(rows)]
            scored += _score(logits_of(rows).float(), torch.tensor(targets), rows_of_prompt.top)
    return scored


def pieces(requested: list[ScoreRows]) -> Iterator[npt.NDArray[np.int64]]:
    """The rows of each `logits_of` call that `score` makes, in order, for ranks that must make the same calls."""
    for rows_of_prompt in requested:
        for _, rows in _pieces(rows_of_prompt):
            yield rows


def _pieces(prompt: ScoreRows) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    for start in range(0, len(prompt.targets), _HEAD_ROWS):
        yield start, prompt.row + np.arange(start, min(start + _HEAD_ROWS, len(prompt.targets)))


def _score(logits: Tensor, targets: Tensor, top: int) -> list[ScoredToken]:
    logprobs = logits.log_softmax(-1)
    own = logprobs.gather(1, targets.to(logits.device).unsqueeze(1))
    if not bool(own.isfinite().all()):
        raise bad_logits()
    ranks = (logprobs > own).sum(-1) + 1
    best = logprobs.topk(min(top, logits.shape[1]), dim=-1)
    columns = (targets, own.squeeze(1), ranks, best.indices, best.values)
    return [
        ScoredToken(target, logprob, rank, tuple(zip(ids, values, strict=True)))
        for target, logprob, rank, ids, values in zip(*(column.tolist() for column in columns), strict=True)
    ]
