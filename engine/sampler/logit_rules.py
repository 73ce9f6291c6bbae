"""Rules that modify a row of logits before sampling (penalties, biases, bans), and the min_p, top_k, top_p filters."""

import math

import numpy as np
import numpy.typing as npt

from engine.sampling.bad_words import completing
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import SampleRow

LogitRow = npt.NDArray[np.float32]
GREEDY_BELOW = 1e-5
"""Temperatures below this mean greedy sampling."""


def change_logits(logits: LogitRow, row: SampleRow) -> LogitRow:
    """A modified copy of the row: penalties, biases, bans. Tokens at -inf (forbidden by a grammar) stay there.

    Repetition penalty (Keskar et al., "CTRL", section 4.1) counts prompt and output; presence and frequency penalty
    count the output, as in the OpenAI API. Biases follow the penalties, so that +100 and -100 mean always and never.
    Rules that would leave no token are skipped: `allowed_token_ids` disjoint from the grammar's, bans of all allowed
    tokens.
    """
    params = row.params
    changed = logits.copy()
    if params.repetition_penalty != 1:
        seen = np.array(list({*row.prompt_token_ids, *row.output_token_ids}), dtype=np.int64)
        values = changed[seen]
        changed[seen] = np.where(values > 0, values / params.repetition_penalty, values * params.repetition_penalty)
    if row.output_token_ids and (params.presence_penalty != 0 or params.frequency_penalty != 0):
        ids, counts = np.unique(np.asarray(row.output_token_ids, dtype=np.int64), return_counts=True)
        changed[ids] -= (params.frequency_penalty * counts + params.presence_penalty).astype(np.float32)
    for token, bias in params.logit_bias:
        changed[token] += bias
    if params.allowed_token_ids:
        allowed = list(params.allowed_token_ids)
        only = np.full_like(changed, -math.inf)
        only[allowed] = changed[allowed]
        changed = only if only.max() > -math.inf else changed
    banned = [*row.banned_token_ids, *completing(row.bad_words, row.output_token_ids)]
    if banned:
        before = changed[banned]
        changed[banned] = -math.inf
        if changed.max() == -math.inf:
            changed[banned] = before
    return changed


def tail_cut(logits: LogitRow, params: SamplingParams) -> float:
    """The least logit that min_p, top_k and top_p, applied in this order after the temperature, keep.

    Ties with the least are kept, so that the result does not depend on the order of a sort.
    """
    cut = -math.inf
    if params.min_p > 0:
        cut = float(logits.max()) + math.log(params.min_p) * params.temperature
    if 0 < params.top_k < len(logits):
        cut = max(cut, float(np.partition(logits, -params.top_k)[-params.top_k]))
    if params.top_p < 1:
        rest = np.sort(logits[logits >= cut])[::-1].astype(np.float64)
        mass = np.cumsum(np.exp((rest - rest[0]) / params.temperature))
        last = int(np.searchsorted(mass, params.top_p * mass[-1]))
        cut = float(rest[min(last, len(rest) - 1)])
    return cut
