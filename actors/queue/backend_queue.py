"""The way into one engine or upstream: its fair queue, when the next work may leave it, and for which replica."""

from collections.abc import Sequence

from actors.api.engine_status import BackendStatus
from actors.api.statistics import QueueStatistics
from actors.protocol.messages import Job
from actors.queue.replica_slot import ReplicaSlot
from engine.core.messages import Submit
from engine.scheduling.prefix_marks import prefix_marks
from policies.queueing.fair_queue import FairQueue
from policies.queueing.placement import Placed, Placement, PrefixMark


class BackendQueue:
    """Owned by dispatch."""

    def __init__(
        self, board: BackendStatus, queue: FairQueue[Job], seats: Sequence[ReplicaSlot], prefix_block: int | None = None
    ) -> None:
        """`prefix_block`: the replicas keep prefixes of prompts, in blocks of so many tokens; None: they do not."""
        self.board = board
        self.queue = queue
        self.seats = tuple(seats)
        self.down_why = ("engine_loading", f"The engine {board.name} is being loaded.")
        self._prefix_block = prefix_block
        self._where: dict[int, ReplicaSlot] = {}
        """By work that is inside."""
        self.placement = Placement(len(self.seats), prefix_block or 1) if len(self.seats) > 1 else None
        self._placed: Placed | None = None
        """The work that was looked at last ..."""
        self._seat: ReplicaSlot = self.seats[0]
        """... and where it fits."""

    @property
    def up(self) -> bool:
        """Some replica takes work."""
        return any(seat.epoch is not None for seat in self.seats)

    @property
    def inside(self) -> int:
        """Works handed over and not ended."""
        return len(self._where)

    def seat_of(self, work: Job) -> ReplicaSlot | None:
        """Who has it; None: nobody, any more or yet."""
        return self._where.get(work.id)

    def fits(self, work: Job) -> bool:
        """Whether some replica can start it soon; `enter` is to follow before this is asked again."""
        sequences, prompts = len(work.sequences), _prompts(work)
        if self.placement is None:
            seat = self._seat
            return seat.room.fits(sequences, seat.room.blocks(prompts), seat.board.stats)
        able = [
            number
            for number, seat in enumerate(self.seats)
            if seat.epoch is not None and seat.room.fits(sequences, seat.room.blocks(prompts), seat.board.stats)
        ]
        if self._placed is None or self._placed.id != work.id:
            self._placed = Placed(work.id, work.tokens, self._marks(work))
        number = self.placement.choose(able, self._placed, [seat.board.stats for seat in self.seats])
        if number is not None:
            self._seat = self.seats[number]
        return number is not None

    def enter(self, work: Job) -> ReplicaSlot:
        """It is handed to the replica where it fits."""
        seat = self._seat
        self._where[work.id] = seat
        seat.inside[work.id] = work
        seat.room.enter(len(work.sequences), seat.room.blocks(_prompts(work)), seat.board.stats)
        if self.placement is not None and self._placed is not None:
            self.placement.enter(seat.board.replica, self._placed, seat.board.stats)
        return seat

    def leave(self, work: Job) -> None:
        """It has ended there; a work that is not in there (its engine went down meanwhile) changes nothing."""
        seat = self._where.pop(work.id, None)
        if seat is not None:
            del seat.inside[work.id]
            seat.room.leave(len(work.sequences))
            if self.placement is not None:
                self.placement.leave(seat.board.replica, work.id)

    def clear(self, seat: ReplicaSlot) -> list[Job]:
        """This replica is gone: all that it had."""
        lost = list(seat.inside.values())
        for work in lost:
            del self._where[work.id]
        seat.inside.clear()
        seat.room.clear()
        if self.placement is not None:
            self.placement.forget(seat.board.replica)
        return lost

    def statistics(self, now: float) -> QueueStatistics:
        """The figures now."""
        line = self.queue.statistics()
        return QueueStatistics(
            requests=line.requests,
            tokens=line.tokens,
            inside=self.board.inside,
            refused_total=sum(line.refused_total.values()),
            expired_total=line.expired_total,
            expected_wait_s=self.queue.expected_wait_s(now),
        )

    def _marks(self, work: Job) -> tuple[PrefixMark, ...]:
        first = work.sequences[0]
        if self._prefix_block is None or not isinstance(first, Submit):
            return ()
        return tuple([PrefixMark(*mark) for mark in prefix_marks(first, self._prefix_block)])


def _prompts(work: Job) -> list[int]:
    return [len(each.prompt_token_ids) for each in work.sequences if isinstance(each, Submit)]
