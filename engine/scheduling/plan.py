"""Plan of one step: which sequences compute how many tokens, and the flat batch built from it."""

from itertools import groupby

import msgspec
import numpy as np

from engine.lora.adapters import Adapter, AdapterRows
from engine.scheduling.batch import Batch, SampleRow, ScoreRows, chosen_by_device
from engine.scheduling.block_table import BlockTable
from engine.scheduling.sequence import Sequence


class Share(msgspec.Struct, gc=False):
    """One sequence's part of a step."""

    sequence: Sequence
    epoch: int
    """The sequence's epoch when the step was planned."""
    tokens: int
    samples: int
    """Positions sampled: that of the last known token and those of the draft tokens after it, as far as computed."""
    scored: int
    """Prompt positions that are scored, for requests with `prompt_logprobs`."""


class StepPlan(msgspec.Struct):
    """One step. `batch.samples` belong, in order, to the shares that sample, `batch.scores` to those that score."""

    shares: list[Share]
    batch: Batch


def shares_of(counts: dict[Sequence, int]) -> list[Share]:
    """The shares of a step that computes the next `counts[sequence]` tokens of each sequence."""
    return [
        Share(
            sequence,
            sequence.epoch,
            count,
            max(sequence.computed + count - sequence.known + 1, 0),
            max(min(sequence.computed + count, sequence.to_score) - sequence.scored, 0),
        )
        for sequence, count in counts.items()
    ]


def make_plan(counts: dict[Sequence, int], table: BlockTable, block_size: int) -> StepPlan:
    """The step that computes the next `counts[sequence]` tokens of each sequence; all needed blocks are allocated."""
    token_ids: list[int] = []
    fed: list[tuple[int, int]] = []
    samples: list[SampleRow] = []
    scores: list[ScoreRows] = []
    adapted = any(sequence.adapter is not None for sequence in counts)
    if adapted:
        counts = _by_adapter(counts)
    shares = shares_of(counts)
    for share in shares:
        sequence, sampled = share.sequence, share.samples
        start = sequence.computed
        if share.scored:
            first = sequence.scored
            targets = sequence.prompt[first + 1 : first + 1 + share.scored]
            top = sequence.params.prompt_logprobs or 0
            scores.append(ScoreRows(len(token_ids) + first - start, targets, top))
        token_ids.extend(sequence.tokens(start, start + share.tokens))
        if sequence.feed >= 0 and start + share.tokens == sequence.known:
            fed.append((len(token_ids) - 1, sequence.feed))
        if sampled:
            params, penalty_output = sequence.params, sequence.penalty_output
            free = params.min_tokens - (sequence.known - len(sequence.prompt))
            row = len(token_ids) - sampled
            cap, written = sequence.cap, len(penalty_output) + (sequence.feed >= 0)
            for drafted in range(sampled):
                samples.append(
                    SampleRow(
                        row + drafted,
                        params,
                        sequence.seed,
                        sequence.known + drafted,
                        sequence.prompt,
                        [*penalty_output, *sequence.draft[:drafted]] if drafted else penalty_output,
                        sequence.banned if drafted < free else (),
                        sequence.bad_words,
                        sequence.grammar,
                        cap if cap is not None and cap.may_force(written + drafted) else None,
                    )
                )
    lengths = np.fromiter(counts.values(), np.int64, len(counts))
    starts = np.fromiter((sequence.computed for sequence in counts), np.int64, len(counts))
    query_starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(lengths, out=query_starts[1:])
    owners = np.repeat(np.arange(len(counts)), lengths)
    positions = np.arange(len(token_ids)) - (query_starts[:-1] - starts)[owners]
    context_lens = starts + lengths
    width = -(-int(context_lens.max()) // block_size)
    tables = table.gather([sequence.row for sequence in counts], width)
    slots = tables[owners, positions // block_size].astype(np.int64) * block_size + positions % block_size
    batch = Batch(
        token_ids=np.array(token_ids, np.int64),
        positions=positions,
        slots=slots,
        query_starts=query_starts.astype(np.int32),
        context_lens=context_lens.astype(np.int32),
        block_tables=tables,
        samples=samples,
        scores=scores,
        adapters=_adapter_rows(shares) if adapted else (),
    )
    if fed:
        rows, feeds = zip(*fed, strict=True)
        batch.feeds = np.full(len(token_ids), -1, np.int32)
        batch.feeds[list(rows)] = feeds
    return StepPlan(shares, batch)


def can_plan_ahead(plan: StepPlan) -> bool:
    """Whether the next step can be planned without this step's tokens, because the device itself chooses them."""
    if plan.batch.scores or any(share.sequence.draft or share.sequence.params.prompt_only for share in plan.shares):
        return False
    return all(chosen_by_device(row) for row in plan.batch.samples)


def _by_adapter(counts: dict[Sequence, int]) -> dict[Sequence, int]:
    """Reordered so that sequences with the same adapter are adjacent."""
    groups: dict[Adapter | None, dict[Sequence, int]] = {}
    for sequence, count in counts.items():
        groups.setdefault(sequence.adapter, {})[sequence] = count
    return {sequence: count for group in groups.values() for sequence, count in group.items()}


def _adapter_rows(shares: list[Share]) -> tuple[AdapterRows, ...]:
    rows = []
    start = 0
    for adapter, group in groupby(shares, lambda share: share.sequence.adapter):
        end = start + sum([share.tokens for share in group])
        if adapter is not None:
            rows.append(AdapterRows(start, end, adapter))
        start = end
    return tuple(rows)
