"""The way into one engine or upstream: its fair queue, when the next work may leave it, and for which replica."""

from collections.abc import Sequence

from actors.api.engine_status import BackendStatus
from actors.api.statistics import QueueStatistics
from actors.protocol.job import Job
from actors.queue.replica_slot import ReplicaSlot
from engine.core.messages import Submit
from engine.scheduling.prefix_marks import prefix_marks
from policies.queueing.fair_queue import FairQueue
from policies.queueing.placement import Placed, Placement, PrefixMark


class BackendQueue:
    """Owned by dispatch."""

    def __init__(
        self,
        published: BackendStatus,
        queue: FairQueue[Job],
        slots: Sequence[ReplicaSlot],
        prefix_block: int | None = None,
    ) -> None:
        """`prefix_block`: the replicas keep prefixes of prompts, in blocks of so many tokens; None: they do not."""
        self.published = published
        self.queue = queue
        self.slots = tuple(slots)
        self.down_why = ("engine_loading", f"The engine {published.name} is being loaded.")
        self._prefix_block = prefix_block
        self._where: dict[int, ReplicaSlot] = {}
        """By work that is inside."""
        self.placement = Placement(len(self.slots), prefix_block or 1) if len(self.slots) > 1 else None
        self._placed: Placed | None = None
        """The work that was looked at last ..."""
        self._slot: ReplicaSlot = self.slots[0]
        """... and where it fits."""

    @property
    def up(self) -> bool:
        """Some replica takes work."""
        return any(slot.epoch is not None for slot in self.slots)

    @property
    def inside(self) -> int:
        """Works handed over and not ended."""
        return len(self._where)

    def slot_of(self, job: Job) -> ReplicaSlot | None:
        """Who has it; None: nobody, any more or yet."""
        return self._where.get(job.job_id)

    def fits(self, job: Job) -> bool:
        """Whether some replica can start it soon; `enter` is to follow before this is asked again."""
        sequences, prompts = len(job.sequences), _prompts(job)
        if self.placement is None:
            slot = self._slot
            return slot.room.fits(sequences, slot.room.blocks(prompts), slot.published.stats)
        able = [
            number
            for number, slot in enumerate(self.slots)
            if slot.epoch is not None and slot.room.fits(sequences, slot.room.blocks(prompts), slot.published.stats)
        ]
        if self._placed is None or self._placed.job_id != job.job_id:
            self._placed = Placed(job.job_id, job.tokens, self._marks(job))
        number = self.placement.choose(able, self._placed, [slot.published.stats for slot in self.slots])
        if number is not None:
            self._slot = self.slots[number]
        return number is not None

    def enter(self, job: Job) -> ReplicaSlot:
        """It is handed to the replica where it fits."""
        slot = self._slot
        self._where[job.job_id] = slot
        slot.inside[job.job_id] = job
        slot.room.enter(len(job.sequences), slot.room.blocks(_prompts(job)), slot.published.stats)
        if self.placement is not None and self._placed is not None:
            self.placement.enter(slot.published.replica, self._placed, slot.published.stats)
        return slot

    def leave(self, job: Job) -> None:
        """It has ended there; a work that is not in there (its engine went down meanwhile) changes nothing."""
        slot = self._where.pop(job.job_id, None)
        if slot is not None:
            del slot.inside[job.job_id]
            slot.room.leave(len(job.sequences))
            if self.placement is not None:
                self.placement.leave(slot.published.replica, job.job_id)

    def clear(self, slot: ReplicaSlot) -> list[Job]:
        """This replica is gone: all that it had."""
        lost = list(slot.inside.values())
        for job in lost:
            del self._where[job.job_id]
        slot.inside.clear()
        slot.room.clear()
        if self.placement is not None:
            self.placement.forget(slot.published.replica)
        return lost

    def statistics(self, now: float) -> QueueStatistics:
        """The figures now."""
        line = self.queue.statistics()
        return QueueStatistics(
            requests=line.requests,
            tokens=line.tokens,
            inside=self.published.inside,
            refused_total=sum(line.refused_total.values()),
            expired_total=line.expired_total,
            expected_wait_s=self.queue.expected_wait_s(now),
        )

    def _marks(self, job: Job) -> tuple[PrefixMark, ...]:
        first = job.sequences[0]
        if self._prefix_block is None or not isinstance(first, Submit):
            return ()
        return tuple([PrefixMark(*mark) for mark in prefix_marks(first, self._prefix_block)])


def _prompts(job: Job) -> list[int]:
    return [len(each.prompt_token_ids) for each in job.sequences if isinstance(each, Submit)]
