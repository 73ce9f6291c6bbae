"""The way into one engine or upstream: its fair queue, and when the next work may leave it (`policies.room`)."""

from actors.engine_board import EngineBoard
from actors.mail import Work
from actors.statistics import QueueStatistics
from engine.messages import Submit
from policies.fair_queue import FairQueue
from policies.room import Room


class Lane:
    """Owned by dispatch."""

    def __init__(
        self, board: EngineBoard, queue: FairQueue[Work], places: int, block_size: int | None, ahead: int | None = None
    ) -> None:
        """For `places`, `block_size` and `ahead` see `Room`."""
        self.board = board
        self.queue = queue
        self.epoch: int | None = None
        """Of the engine's present life; None: it takes no work."""
        self.down_why = ("engine_loading", f"The engine {board.name} is being loaded.")
        self.inside: dict[int, Work] = {}
        self._room = Room(places, block_size, ahead)

    def fits(self, work: Work) -> bool:
        """Whether the engine can start it soon."""
        return self._room.fits(len(work.sequences), self._blocks(work), self.board.stats)

    def enter(self, work: Work) -> None:
        """It is handed to the engine."""
        self.inside[work.id] = work
        self._room.enter(len(work.sequences), self._blocks(work), self.board.stats)

    def leave(self, work: Work) -> None:
        """It has ended there; a work that is not in there (its engine went down meanwhile) changes nothing."""
        if self.inside.pop(work.id, None) is not None:
            self._room.leave(len(work.sequences))

    def clear(self) -> list[Work]:
        """The engine is gone: all that it had, and all that waited for it."""
        lost = list(self.inside.values())
        self.inside.clear()
        self._room.clear()
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

    def _blocks(self, work: Work) -> int:
        return self._room.blocks([len(each.prompt_token_ids) for each in work.sequences if isinstance(each, Submit)])
