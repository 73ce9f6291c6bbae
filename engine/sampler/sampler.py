"""Sampling on the host: greedy or random, with margins and log-probabilities."""

import math

import numpy as np
import numpy.typing as npt

from engine.errors import bad_logits
from engine.sampler.logit_rules import GREEDY_BELOW, LogitRow, change_logits, tail_cut
from engine.sampler.noise import draw, scan
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Sampled, SampleRow, changes_logits


def sample(logits: npt.NDArray[np.float32], rows: list[SampleRow]) -> Sampled:
    """Choose a token for each row of `logits` [len(rows), vocab], which must be contiguous.

    The token of a row depends on its logits, parameters, seed and position only. Raises EngineError: a logit is NaN or
    infinite.
    """
    best = np.empty(len(rows), np.int64)
    second = np.empty(len(rows), np.int64)
    broken = scan(logits.view(np.int32), best, second)
    if broken >= 0:
        raise bad_logits()
    every = np.arange(len(rows))
    margins = logits[every, best] - logits[every, second]
    tokens: list[int] = best.tolist()
    logprobs: list[tuple[float, tuple[tuple[int, float], ...]] | None] = [None] * len(rows)
    for index, row in enumerate(rows):
        params = row.params
        line = logits[index]
        if row.grammar is not None:
            line = np.where(row.grammar.allowed(row.output_token_ids, len(line)), line, np.float32(-math.inf))
            tokens[index], margins[index] = _best(line)
        changed = changes_logits(row)
        if changed or params.temperature >= GREEDY_BELOW:
            tokens[index] = _choose(change_logits(line, row) if changed else line, row)
        if row.cap is not None and (forced := row.cap.forced(row.output_token_ids)) is not None:
            tokens[index], margins[index] = forced, math.inf
        if params.logprobs is not None:
            logprobs[index] = _logprobs(logits[index], tokens[index], params)
    return Sampled(token_ids=tokens, margins=margins.tolist(), logprobs=logprobs)


def _best(line: LogitRow) -> tuple[int, float]:
    """The best token and its margin over the second best, infinite if no second one is allowed."""
    best = int(line.argmax())
    top = line[best]
    line[best] = -math.inf
    margin = float(top - line.max())
    line[best] = top
    return best, margin


def _choose(logits: LogitRow, row: SampleRow) -> int:
    params = row.params
    if params.temperature < GREEDY_BELOW:
        return int(logits.argmax())
    filtered = params.top_k > 0 or params.top_p < 1 or params.min_p > 0
    cut = tail_cut(logits, params) if filtered else -math.inf
    return draw(
        logits, 1.0 / params.temperature, cut, np.uint64(row.seed & 0xFFFFFFFFFFFFFFFF), np.uint64(row.position)
    )


def _logprobs(logits: LogitRow, token: int, params: SamplingParams) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Log-probabilities of the chosen token and of those asked for, from the model's own distribution."""
    wide = logits.astype(np.float64)
    peak = wide.max()
    total = float(peak + np.log(np.exp(wide - peak).sum()))
    count = min(params.logprobs or 0, len(wide))
    top = list(params.logprob_token_ids)
    if count and not top:
        candidates = np.flatnonzero(logits >= np.partition(logits, -count)[-count])
        top = candidates[np.argsort(-logits[candidates], kind="stable")][:count].tolist()
    return float(wide[token]) - total, tuple((best, float(wide[best]) - total) for best in top)
