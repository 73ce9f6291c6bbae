"""The scheduler: which sequence computes how many tokens in each step.

As in vLLM V1 there are no phases: a step reduces the difference between known and computed tokens. Running sequences
come first, decodes before prefills; if blocks run short, a sequence is preempted and recomputed later; then waiting
sequences are admitted, as long as their whole prompts fit. A draft is computed like known tokens, but none of its
blocks is cached, and no decode waits or is preempted for it.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from collections.abc import Sequence as Items
from itertools import islice
from operator import attrgetter

import msgspec

from config.model.settings import EngineSettings
from engine.errors import EngineError
from engine.scheduling.best_effort import BestEffort, BestEffortStatistics
from engine.scheduling.block_manager import BlockManager, BlockStatistics
from engine.scheduling.block_table import BlockTable
from engine.scheduling.plan import Share, StepPlan, make_plan
from engine.scheduling.sequence import Sequence

_MAX_PREEMPTIONS = 3
"""After this many preemptions a sequence is not chosen again unless no other candidate exists."""
_WATERMARK = 0.01
"""Fraction of the pool that stays free when a sequence is admitted beside others."""
_ORDER = attrgetter("order")


class SchedulerStatistics(msgspec.Struct, frozen=True):
    """State of the scheduler; totals count from its start."""

    blocks: BlockStatistics
    running: int
    waiting: int
    outstanding_tokens: int
    preemptions_total: int
    prefix_queries_total: int
    prefix_hits_total: int
    best_effort: BestEffortStatistics
    """Part of `running`, `waiting` and `outstanding_tokens`, and the blocks in use for it."""


class Scheduler:
    """Owns all live sequences, their blocks and the prefix cache."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        total_blocks: int,
        block_size: int,
        max_model_len: int,
        host_blocks: int = 0,
    ) -> None:
        """Manage the blocks 1 to `total_blocks` - 1 of a pool, and `host_blocks` on the host. Raises EngineError."""
        _check(settings)
        self._best_effort = BestEffort(settings)
        self._chunk = settings.prefill_chunk
        self._caching = settings.prefix_cache
        self._block_size = block_size
        self._watermark = int(total_blocks * _WATERMARK)
        self._blocks = BlockManager(total_blocks, host_blocks)
        self._table = BlockTable(settings.max_running, -(-max_model_len // block_size))
        self._waiting: list[Sequence] = []
        """Sorted by `Sequence.order`."""
        self._running: list[Sequence] = []
        self._in_progress: dict[bytes, Sequence] = {}
        """Full blocks that a running sequence will compute, by name; a sequence that needs one waits for it."""
        self._outstanding = 0
        self._preemptions = 0
        self._queries = 0
        self._hits = 0

    @property
    def has_work(self) -> bool:
        return bool(self._running or self._waiting)

    @property
    def running(self) -> Items[Sequence]:
        """The sequences in the batch; not to be modified."""
        return self._running

    def add(self, sequence: Sequence) -> None:
        """Add a sequence that fits into the pool on its own.

        The waiting list is unbounded here: callers limit it by `outstanding_tokens` of the statistics.
        """
        self._best_effort.alive += sequence.best_effort
        self._outstanding += sequence.outstanding
        insort(self._waiting, sequence, key=_ORDER)

    def finish(self, sequence: Sequence) -> None:
        """Remove a sequence that has ended or was aborted; results in flight for it will be dropped."""
        self._best_effort.alive -= sequence.best_effort
        self._outstanding -= sequence.outstanding
        sequence.finished = True
        if sequence.row >= 0:
            self._leave(sequence)
        else:
            del self._waiting[bisect_left(self._waiting, sequence.order, key=_ORDER)]

    def schedule(self) -> StepPlan | None:
        """The next step, or None if there is no work."""
        counts = self.decide()
        if not counts:
            return None
        plan = make_plan(counts, self._table, self._block_size)
        plan.batch.moves = self._blocks.host.moves()
        return plan

    def decide(self) -> dict[Sequence, int]:
        """Tokens per sequence for the next step, with their blocks allocated; empty if there is no work."""
        allowed = self._best_effort.allowed(self._running, self._waiting)
        counts = self._continue(allowed)
        while not counts and any(
            not sequence.ending and (allowed is None or not sequence.best_effort) for sequence in self._running
        ):
            self._preempt(min(self._running, key=_cheapest))
            counts = self._continue(allowed)
        self._admit(counts, allowed)
        return counts

    def commit_launched(self, shares: Iterable[Share]) -> None:
        """Account for a launched step before its tokens are known, so that the next step can be planned.

        Must be followed by `commit_arrived` before the next call.
        """
        sample = 0
        for share in shares:
            sequence = share.sequence
            if sequence.epoch == share.epoch:
                self._progress(sequence, sequence.computed + share.tokens)
                if share.samples:
                    sequence.add_placeholder(sample)
            sample += share.samples

    def commit_arrived(self, shares: Iterable[Share]) -> list[Sequence | None]:
        """A launched step is done. Returns the sequence of each of its samples; None if it has finished.

        A sequence that was preempted meanwhile still takes its token; only its KV is lost.
        """
        takers: list[Sequence | None] = []
        for share in shares:
            sequence = share.sequence
            if sequence.epoch == share.epoch:
                self._name(sequence, sequence.computed - share.tokens)
            if share.samples:
                takers.append(None if sequence.finished else sequence)
        return takers

    def commit(self, shares: Iterable[Share]) -> list[Sequence | None]:
        """A step is done. Returns the sequence of each of its samples, in order; None if it has left the batch.

        Sequences with a draft must be passed to `settle` after their samples are appended.
        """
        takers: list[Sequence | None] = []
        for share in shares:
            sequence = share.sequence
            current = sequence.epoch == share.epoch
            if current:
                sequence.scored += share.scored
                self._advance(sequence, min(sequence.computed + share.tokens, sequence.known))
            if share.samples:
                takers.extend((sequence if current else None,) * share.samples)
        return takers

    def quiet_steps(self, most: int) -> int:
        """How many of the next steps, up to `most`, would only give each running sequence one more token.

        In such steps no sequence can be admitted, none computes more than one token, and blocks suffice.
        """
        if not self._running or self._best_effort.alive or (self._waiting and self._table.free_rows):
            return 0
        if any(sequence.ahead - sequence.computed != 1 for sequence in self._running):
            return 0
        available = self._blocks.available
        if self._blocks_for(most) <= available:
            return most
        few, many = 0, most
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (middle, many) if self._blocks_for(middle) <= available else (few, middle)
        return few

    def advance(self, steps: int) -> None:
        """Execute that many quiet steps at once; blocks and hashes are assigned in the same order as in single steps.

        The caller has checked `quiet_steps`, and appended the tokens of these steps to each running sequence.
        """
        size = self._block_size
        happenings: list[tuple[int, bool, int]] = []
        for place, sequence in enumerate(self._running):
            computed = sequence.computed
            for step in range(len(sequence.blocks) * size - computed, steps, size):
                happenings.append((step, False, place))
            if self._caching:
                for step in range(size - 1 - computed % size, steps, size):
                    happenings.append((step, True, place))
        for step, full, place in sorted(happenings):
            sequence = self._running[place]
            if full:
                block = (sequence.computed + step) // size
                self._publish(sequence, block, block + 1)
            else:
                self._take(sequence, self._blocks.allocate(1))
        for sequence in self._running:
            sequence.computed += steps
        self._outstanding -= steps * len(self._running)

    def _blocks_for(self, steps: int) -> int:
        size = self._block_size
        return sum(max(-(-(sequence.computed + steps) // size) - len(sequence.blocks), 0) for sequence in self._running)

    def settle(self, sequence: Sequence) -> None:
        """After the samples are appended: keep the KV of accepted draft tokens, release the blocks of rejected ones."""
        self._advance(sequence, sequence.known - 1)
        needed = -(-sequence.ahead // self._block_size)
        if needed < len(sequence.blocks):
            self._blocks.release(sequence.blocks[needed:])
            del sequence.blocks[needed:]
            self._table.cut(sequence.row, needed)

    def _advance(self, sequence: Sequence, computed: int) -> None:
        before = sequence.computed
        self._progress(sequence, computed)
        self._name(sequence, before)

    def _progress(self, sequence: Sequence, computed: int) -> None:
        self._outstanding -= computed - sequence.computed
        sequence.computed = computed

    def _name(self, sequence: Sequence, before: int) -> None:
        """Publish the blocks that were filled since `before` tokens were computed."""
        first, end = before // self._block_size, sequence.computed // self._block_size
        if self._caching and first != end:
            self._publish(sequence, first, end)

    def _continue(self, allowed: int | None) -> dict[Sequence, int]:
        """Token counts for the running sequences, limited to the blocks that could be allocated."""
        budget = self._best_effort.budget(allowed)
        counts: dict[Sequence, int] = {}
        behind = len(self._running)
        for sequence in sorted(self._running, key=_is_prefill):
            behind -= 1
            if sequence.row < 0 or sequence.ending:
                continue
            if sequence.best_effort and allowed is not None:
                if not allowed:
                    continue
                allowed -= 1
            count = min(sequence.ahead - sequence.computed, self._chunk, budget)
            if count > 1 and not _is_prefill(sequence):
                count = max(min(count, budget - behind), 1)
            if count > len(sequence.blocks) * self._block_size - sequence.computed:
                count = self._make_room(sequence, count, counts)
            if count:
                counts[sequence] = count
                budget -= count
        return counts

    def _make_room(self, sequence: Sequence, count: int, counts: dict[Sequence, int]) -> int:
        """Allocate blocks; return how many of the next `count` tokens have one.

        Blocks for all known and draft tokens are allocated on admission, so only decodes grow. Only a known token can
        cause a preemption (possibly of `sequence` itself); a draft takes free blocks only.
        """
        size = self._block_size
        room = len(sequence.blocks) * size - sequence.computed
        blocks = min(-(-(count - room) // size), self._blocks.available)
        if not blocks and not room:
            if not self._preempt_for(sequence, counts):
                return 0
            blocks = 1
        self._take(sequence, self._blocks.allocate(blocks))
        return min(count, room + blocks * size)

    def _preempt_for(self, sequence: Sequence, counts: dict[Sequence, int]) -> bool:
        """Free a block. False if `sequence` must wait or was itself preempted."""
        while not self._blocks.available:
            victims = [
                other
                for other in self._running
                if other.best_effort > sequence.best_effort
                or (other.preemptions < _MAX_PREEMPTIONS and other.importance <= sequence.importance)
            ]
            if not victims:
                return False
            victim = min(victims, key=_cheapest)
            counts.pop(victim, None)
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _admit(self, counts: dict[Sequence, int], allowed: int | None) -> None:
        budget = self._best_effort.budget(allowed) - sum(counts.values())
        index = 0
        while index < len(self._waiting) and budget > 0:
            sequence = self._waiting[index]
            if sequence.best_effort and allowed is not None:
                return
            if not self._table.free_rows and (sequence.best_effort or not self._best_effort.alive):
                return
            if sequence.ending:
                index += 1
                continue
            names = sequence.block_names(sequence.reusable // self._block_size, self._block_size)
            cached = self._blocks.match(names) if self._caching else []
            on_host = self._blocks.host.count(names[len(cached) :]) if self._caching else 0
            known = len(cached) + on_host
            if known < len(names) and self._awaits(sequence, names[known]):
                index += 1
                continue
            needed = -(-sequence.ahead // self._block_size) - len(cached)
            margin = max(self._watermark, len(self._running)) if self._running else 0
            short = needed + self._blocks.idle_among(cached) + margin > self._blocks.available
            if short or not self._table.free_rows:
                if self._make_way(sequence, counts):
                    continue
                return
            del self._waiting[index]
            self._enter(sequence, cached, names[len(cached) : known], needed)
            count = min(sequence.ahead - sequence.computed, self._chunk, budget)
            counts[sequence] = count
            budget -= count

    def _awaits(self, sequence: Sequence, name: bytes) -> bool:
        """Whether another sequence will compute this block before; a best-effort one may take its time."""
        other = self._in_progress.get(name)
        return other is not None and other.best_effort <= sequence.best_effort

    def _make_way(self, sequence: Sequence, counts: dict[Sequence, int]) -> bool:
        """Preempt a best-effort sequence for one that is not; False: there is none."""
        victim = None if sequence.best_effort else self._best_effort.victim(self._running)
        if victim is None:
            return False
        counts.pop(victim, None)
        self._preempt(victim)
        return True

    def _enter(self, sequence: Sequence, cached: list[int], on_host: list[bytes], needed: int) -> None:
        """Admit with `cached` blocks on the device, those `on_host`, and blank ones; `needed` counts the last two."""
        self._blocks.hold(cached)
        cached = [*cached, *self._blocks.bring_back(on_host)]
        sequence.row = self._table.take()
        self._take(sequence, [*cached, *self._blocks.allocate(needed - len(on_host))])
        sequence.computed = len(cached) * self._block_size
        self._outstanding -= sequence.computed
        self._running.append(sequence)
        if not self._caching:
            return
        if not sequence.preemptions:
            sequence.cached_tokens = sequence.computed
            if not sequence.to_score:
                self._queries += sequence.known
                self._hits += sequence.computed
        for name in islice(
            sequence.block_names(sequence.seen // self._block_size, self._block_size), len(cached), None
        ):
            if not self._awaits(sequence, name):
                self._in_progress[name] = sequence

    def _take(self, sequence: Sequence, blocks: list[int]) -> None:
        self._table.write(sequence.row, len(sequence.blocks), blocks)
        sequence.blocks += blocks

    def _publish(self, sequence: Sequence, first: int, end: int) -> None:
        for index in range(first, end):
            name = sequence.block_name(index, self._block_size)
            block = self._blocks.publish(sequence.blocks[index], name)
            if block != sequence.blocks[index]:
                sequence.blocks[index] = block
                self._table.write(sequence.row, index, [block])

    def _preempt(self, sequence: Sequence) -> None:
        """Preempt by recompute: tokens are kept, computed KV is dropped (except blocks that stay cached)."""
        self._preemptions += 1
        sequence.preemptions += 1
        self._outstanding += sequence.computed
        sequence.computed = 0
        self._leave(sequence)
        insort(self._waiting, sequence, key=_ORDER)

    def _leave(self, sequence: Sequence) -> None:
        sequence.epoch += 1
        self._running.remove(sequence)
        self._table.give_back(sequence.row)
        sequence.row = -1
        self._blocks.release(sequence.blocks)
        sequence.blocks = []
        for name in sequence.known_names:
            if self._in_progress.get(name) is sequence:
                del self._in_progress[name]

    def statistics(self) -> SchedulerStatistics:
        return SchedulerStatistics(
            blocks=self._blocks.statistics(),
            running=len(self._running),
            waiting=len(self._waiting),
            outstanding_tokens=self._outstanding,
            preemptions_total=self._preemptions,
            prefix_queries_total=self._queries,
            prefix_hits_total=self._hits,
            best_effort=self._best_effort.statistics(self._running, self._waiting),
        )

    def check_integrity(self) -> None:
        """Raises EngineError if scheduler, block manager and block table contradict each other."""
        self._blocks.check_integrity([sequence.blocks for sequence in self._running])
        self._table.check_integrity({sequence.row: sequence.blocks for sequence in self._running})
        alive: Iterable[Sequence] = (*self._running, *self._waiting)
        if self._outstanding != sum(sequence.outstanding for sequence in alive):
            raise _broken("outstanding tokens do not add up")
        if self._best_effort.alive != sum(sequence.best_effort for sequence in alive):
            raise _broken("the best-effort sequences do not add up")
        if any(sequence.finished for sequence in alive) or any(s.blocks or s.row >= 0 for s in self._waiting):
            raise _broken("a finished sequence is kept, or a waiting one holds blocks")
        if not {*self._in_progress.values()} <= {*self._running}:
            raise _broken("blocks are expected from a sequence that does not run")


def _check(settings: EngineSettings) -> None:
    for key, value in (("max_running", settings.max_running), ("prefill_chunk", settings.prefill_chunk)):
        if value < 1:
            raise EngineError("engine_settings", f"{key} = {value}: nothing could ever run; it must be at least 1")
    if settings.max_step_tokens < settings.max_running:
        raise EngineError(
            "engine_settings",
            f"max_step_tokens = {settings.max_step_tokens} is less than max_running = {settings.max_running}: "
            "a step must have a token for every running sequence; raise the one or lower the other",
        )


def _is_prefill(sequence: Sequence) -> bool:
    return sequence.known - sequence.computed > 1


def _cheapest(sequence: Sequence) -> tuple[tuple[bool, int], int]:
    return sequence.importance, sequence.computed


def _broken(what: str) -> EngineError:
    return EngineError("engine_integrity", f"the scheduler is inconsistent: {what}; this is a defect")
