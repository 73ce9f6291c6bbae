"""When a replica can start another job (`EngineCapacity`), and which replica gets it (`Placement`).

The engine's own list of waiting jobs is just long enough that a step never lacks work while a report is on its way.

Placement prefers the replica with the fewest tokens ahead: those that it last reported (prompt tokens to compute and
output tokens allowed), and those of jobs started since. The replica that probably holds the longest beginning of the
prompt in its prefix cache is preferred as long as it has at most `IMBALANCE` times the tokens ahead of the least loaded
one, plus the tokens that it saves: so one hot prefix spreads to as many replicas as its load needs.

The contents of a replica's cache are remembered by marks: names of the prompt's first 1, 2, 4, 8 ... blocks. As many
are kept as its KV pool has room for, the latest ones.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Protocol

import msgspec

from policies.errors import IntegrityError

_STEPS_TO_SHOW = 2
"""After this many more steps a replica's figures include the jobs that were started before them."""
_STARTS_GAIN = 0.1
IMBALANCE = 1.5
"""A replica that knows the prompt may have this many times the tokens ahead of the least loaded one."""


class ReplicaFigures(Protocol):
    """What a replica's last step reported; `engine.messages.EngineStats` is one."""

    @property
    def waiting(self) -> int: ...
    @property
    def free_blocks(self) -> int: ...
    @property
    def best_effort_waiting(self) -> int: ...
    @property
    def best_effort_blocks(self) -> int: ...
    @property
    def total_blocks(self) -> int: ...
    @property
    def outstanding_tokens(self) -> int: ...
    @property
    def steps_total(self) -> int: ...
    @property
    def step_tokens(self) -> int: ...
    @property
    def step_s(self) -> float: ...


class JobPrompts(Protocol):
    """What a job's KV blocks are counted by; `policies.queueing.backend_queue.BackendJob` is one."""

    @property
    def prompt_lengths(self) -> Sequence[int]: ...


class EngineCapacity:
    """One engine's, or one upstream's. Mutable; owned by the task that dispatches jobs."""

    def __init__(
        self, places: int, block_size: int | None, ahead: int | None = None, *, gives_way: bool = True
    ) -> None:
        """`places`: sequences that run in one batch. `block_size` None: only places are limited, not KV blocks.

        `gives_way`: its best-effort sequences give their places and blocks to others; False: an upstream's calls
        cannot, so that best-effort ones may take half of the places only.
        `ahead`: sequences that may be started beyond those; None: an eighth of them, and no more than are measured to
        start before a report is back. What waits inside the engine is no longer in the fair order.
        """
        self._places = places
        self._block_size = block_size
        self._ahead = max(1, places // 8) if ahead is None else ahead
        self._measures = ahead is None
        self._starts_per_step = self._ahead / _STEPS_TO_SHOW
        self._starts = 0
        self._steps = 0
        """Those of `_starts` began after this many steps."""
        self._gives_way = gives_way
        self._jobs = 0
        self._best_effort_jobs = 0
        self._best_effort = 0
        """How many of `sequences` are best effort."""
        self.sequences = 0
        """Started and not ended."""
        self._unseen: deque[tuple[int, int]] = deque()
        """By job that the figures do not include yet: (steps at its start, blocks of its prompts)"""
        self._coming = 0

    def blocks(self, job: JobPrompts) -> int:
        """Of its prompts; 0 where only places are limited."""
        size = self._block_size
        return sum([length // size + 1 for length in job.prompt_lengths]) if size is not None else 0

    def fits(self, sequences: int, blocks: int, figures: ReplicaFigures | None, *, best_effort: bool = False) -> bool:
        """Whether a job can start soon. An idle engine takes any job that its limits allow."""
        yields = self._gives_way and not best_effort
        if self._jobs == (self._best_effort_jobs if yields else 0):
            return True
        inside = self.sequences - (self._best_effort if yields else 0)
        places = self._places + self._ahead_now
        if best_effort and not self._gives_way:
            places = max(places // 2, 1)
        if inside + sequences > places:
            return False
        if figures is None or self._block_size is None:
            return True
        if figures.waiting - (figures.best_effort_waiting if yields else 0) > self._ahead:
            return False
        while self._unseen and self._unseen[0][0] + _STEPS_TO_SHOW <= figures.steps_total:
            self._see_oldest()
        free = figures.free_blocks + (figures.best_effort_blocks if yields else 0)
        # One more block for each running sequence: its output grows.
        return free - self._coming - inside >= blocks

    def enter(self, sequences: int, blocks: int, figures: ReplicaFigures | None, *, best_effort: bool = False) -> None:
        self._jobs += 1
        self.sequences += sequences
        if best_effort:
            self._best_effort_jobs += 1
            self._best_effort += sequences
        if self._block_size is None:
            return
        self._count_starts(sequences, figures.steps_total if figures is not None else 0)
        self._unseen.append((figures.steps_total if figures is not None else 0, blocks))
        self._coming += blocks
        if len(self._unseen) > self._places + self._ahead:
            self._see_oldest()

    def leave(self, sequences: int, *, best_effort: bool = False) -> None:
        self._jobs -= 1
        self.sequences -= sequences
        if best_effort:
            self._best_effort_jobs -= 1
            self._best_effort -= sequences

    def clear(self) -> None:
        """The engine is down: all its jobs are lost."""
        self._jobs = self.sequences = self._coming = 0
        self._best_effort_jobs = self._best_effort = 0
        self._unseen.clear()

    def is_settled(self, sequences: int, blocks: int, figures: ReplicaFigures | None) -> bool:
        """Whether a job has to end before this fits: steps that only make tokens will not free enough."""
        if not self._jobs:
            return False
        if self.sequences + sequences > self._places + self._ahead_now:
            return True
        return figures is not None and not self.fits(sequences, blocks, figures) and not self._unseen

    @property
    def _ahead_now(self) -> int:
        return min(self._ahead, int(self._starts_per_step * _STEPS_TO_SHOW)) if self._measures else self._ahead

    def _count_starts(self, sequences: int, steps: int) -> None:
        if steps > self._steps:
            per_step = self._starts / (steps - self._steps)
            self._starts_per_step += _STARTS_GAIN * (per_step - self._starts_per_step)
        if steps != self._steps:
            # Fewer: the engine was restarted.
            self._steps, self._starts = steps, 0
        self._starts += sequences

    def _see_oldest(self) -> None:
        self._coming -= self._unseen.popleft()[1]


class PrefixMark(msgspec.Struct, frozen=True, gc=False):
    """A prompt's first `tokens` tokens, under a name that is unique to them."""

    name: bytes
    tokens: int


class Placed(msgspec.Struct, frozen=True):
    """What placement needs of a job."""

    job_id: int | str
    tokens: int
    """Prompt and reserved output."""
    marks: tuple[PrefixMark, ...] = ()
    """Shortest first."""


class _Replica(msgspec.Struct, eq=False):
    started_total: int = 0
    inside: set[int | str] = set()
    unseen: dict[int | str, tuple[int, int]] = {}
    """By job that the figures do not include yet: (steps at its start, tokens)."""
    held: OrderedDict[bytes, int] = msgspec.field(default_factory=OrderedDict)
    """By mark, the oldest first: the tokens between it and the mark before it."""
    held_tokens: int = 0


class Placement:
    """All replicas of one engine, by their number. Mutable; owned by the task that dispatches jobs."""

    def __init__(self, replicas: int, block_size: int) -> None:
        self._replicas = [_Replica() for _ in range(replicas)]
        self._block_size = block_size

    def choose(self, able: Sequence[int], item: Placed, figures: Sequence[ReplicaFigures | None]) -> int | None:
        """One of the replicas that are `able` to take it; None if none is. `figures` are of all replicas."""
        if not able:
            return None
        ahead = {number: self.ahead(number, figures[number]) for number in able}
        most = min(ahead.values()) * IMBALANCE
        best = None
        for number in able:
            known = self.known(number, item.marks)
            if ahead[number] <= most + known:
                rank = (-known, ahead[number], self._replicas[number].started_total, number)
                best = rank if best is None else min(best, rank)
        assert best is not None, "the least loaded one is within every bound"
        return best[-1]

    def enter(self, number: int, item: Placed, figures: ReplicaFigures | None) -> None:
        replica = self._replicas[number]
        replica.inside.add(item.job_id)
        replica.unseen[item.job_id] = figures.steps_total if figures is not None else 0, item.tokens
        replica.started_total += 1
        before = [0, *(mark.tokens for mark in item.marks)]
        # As the cache itself does, the ends of prompts are forgotten before their beginnings.
        for mark, shorter in reversed(list(zip(item.marks, before, strict=False))):
            if mark.name not in replica.held:
                replica.held[mark.name] = mark.tokens - shorter
                replica.held_tokens += mark.tokens - shorter
            replica.held.move_to_end(mark.name)
        room = (figures.total_blocks if figures is not None else 0) * self._block_size
        while replica.held_tokens > room:
            replica.held_tokens -= replica.held.popitem(last=False)[1]

    def leave(self, number: int, job_id: int | str) -> None:
        """The job has ended there; without effect for an unknown job."""
        self._replicas[number].inside.discard(job_id)
        self._replicas[number].unseen.pop(job_id, None)

    def forget(self, number: int) -> None:
        """The replica is down: its jobs and its cache are lost."""
        self._replicas[number] = _Replica(self._replicas[number].started_total)

    def ahead(self, number: int, figures: ReplicaFigures | None) -> int:
        """Tokens that this replica may still have to compute."""
        replica = self._replicas[number]
        if not replica.inside:
            return 0
        if figures is None:
            return sum([tokens for _, tokens in replica.unseen.values()])
        replica.unseen = {
            job_id: each for job_id, each in replica.unseen.items() if each[0] + _STEPS_TO_SHOW > figures.steps_total
        }
        return figures.outstanding_tokens + sum([tokens for _, tokens in replica.unseen.values()])

    def known(self, number: int, marks: Sequence[PrefixMark]) -> int:
        """Tokens of a prompt's beginning that this replica probably holds."""
        held = self._replicas[number].held
        return max([mark.tokens for mark in marks if mark.name in held], default=0)

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if the books contradict each other."""
        for number, replica in enumerate(self._replicas):
            if not replica.unseen.keys() <= replica.inside:
                raise IntegrityError(f"replica {number} has not seen what it does not have")
            if sum(replica.held.values()) != replica.held_tokens:
                raise IntegrityError(f"replica {number} holds {replica.held_tokens} tokens that do not add up")
