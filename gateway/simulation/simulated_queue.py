"""The way into one simulated engine: the service's own fair queue, and its rules of when work leaves and where to."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from config.model.settings import EngineSettings
from config.model.tenancy import TenantSettings, TierSettings
from engine.core.messages import EngineStats, sum_of_stats
from gateway.simulation.replayed_sequence import Replayed
from gateway.simulation.simulated_engine import SimulatedEngine
from policies.queueing.engine_capacity import EngineCapacity
from policies.queueing.fair_queue import FairQueue, QueueFull, QueueItem
from policies.queueing.placement import Placed, Placement, PrefixMark

if TYPE_CHECKING:
    from gateway.simulation.simulated_request import SimulatedAttempt

_NEVER = float("inf")


class Waiting(QueueItem, frozen=True, kw_only=True):
    """An attempt in the line."""

    attempt: "SimulatedAttempt"
    sequences: int
    blocks: int


class SimulatedQueue:
    """What `actors.queue.dispatcher` and `actors.queue.backend_queue` do, on the virtual clock."""

    def __init__(
        self, tiers: Mapping[str, TierSettings], tenants: Mapping[str, TenantSettings], settings: EngineSettings
    ) -> None:
        self.queue: FairQueue[Waiting] = FairQueue(tiers, tenants)
        self.rooms = [EngineCapacity(settings.max_running, settings.kv.block_size) for _ in range(settings.replicas)]
        self.engines: list[SimulatedEngine] = []
        """One for each replica; filled once: lane and engines know each other."""
        self._block_size = settings.kv.block_size
        self._affine = settings.prefix_cache
        self._placement = Placement(settings.replicas, self._block_size)
        self._where: dict[str | int, int] = {}
        """The replica that has an item."""
        self._placed: Placed | None = None
        """The item that was looked at last ..."""
        self._chosen = 0
        """... and where it fits."""
        self._least_blocks = 0
        """No one that waits needs less."""

    @property
    def max_model_len(self) -> int:
        """Of every replica."""
        return self.engines[0].max_model_len

    @property
    def busy_s(self) -> float:
        """Of a replica on average."""
        return sum([engine.busy_s for engine in self.engines]) / len(self.engines)

    def stats(self, now: float) -> EngineStats:
        """Of all replicas, as their last steps reported."""
        return sum_of_stats([engine.stats(now) for engine in self.engines])

    def blocks(self, prompts: list[int]) -> int:
        """What prompts of these lengths will take."""
        return self.rooms[0].blocks(prompts)

    def calm(self) -> bool:
        """No step by itself lets anything leave the queue.

        A step of one replica can do so where another one has room: what it makes is charged to its tenants, and so
        may change who is next.
        """
        if not len(self.queue):
            return True
        return all(
            room.is_settled(1, self._least_blocks, engine.stats(0.0))
            for room, engine in zip(self.rooms, self.engines, strict=True)
        )

    def offer(self, item: Waiting, now: float) -> QueueFull | None:
        """Into the line, and on if there is room; None: it was let in."""
        self.move_on(now)
        least = min(self._least_blocks, item.blocks) if len(self.queue) else item.blocks
        answer = self.queue.offer(item, now)
        if isinstance(answer, QueueFull):
            return answer
        self._least_blocks = least
        self.move_on(now)
        return None

    def withdraw(self, item: Waiting, now: float) -> None:
        """Nobody waits for it any more, wherever it is."""
        if self.queue.remove(item.job_id) is None and item.attempt.taken:
            engine = self.engines[self._where[item.job_id]]
            engine.tell(now, (), [each for each in item.attempt.sequences if not each.finished])
            self.freed(item)
        self.move_on(now)

    def freed(self, item: Waiting) -> None:
        """All of its sequences have ended in the engine."""
        replica = self._where.pop(item.job_id)
        self.rooms[replica].leave(item.sequences)
        self._placement.leave(replica, item.job_id)

    def move_on(self, now: float) -> None:
        """Hand over what has room, and tell those whose time is up."""
        queue = self.queue
        self.charge(now)
        if not len(queue) and queue.next_expiry() is None:
            return
        stats = [engine.stats(now) for engine in self.engines]
        started: list[list[Replayed]] = [[] for _ in self.engines]
        while len(queue):
            item = queue.take(now, lambda each: self._fits(each, stats))
            if item is None:
                break
            replica = self._chosen
            assert self._placed is not None
            self._where[item.job_id] = replica
            self.rooms[replica].enter(item.sequences, item.blocks, stats[replica])
            self._placement.enter(replica, self._placed, stats[replica])
            item.attempt.on_taken(now)
            started[replica] += item.attempt.sequences
        for engine, sequences in zip(self.engines, started, strict=True):
            if sequences:
                engine.tell(now, sequences)
        for item in queue.expire(now):
            item.attempt.on_expired(now)
        if not self.calm():
            for engine in self.engines:
                # It may have planned ahead, but its next step may make room.
                engine.cut(now)

    def charge(self, now: float) -> None:
        """Tell the queue what was made for each tenant."""
        for engine in self.engines:
            engine.catch_up(now)
            for tenant, tokens in engine.made.items():
                self.queue.charge(tenant, tokens)
            engine.made.clear()

    def catch_up(self, now: float) -> None:
        """Carry out what the clock has passed."""
        for engine in self.engines:
            engine.catch_up(now)

    def next_expiry(self) -> float:
        """When somebody's time is up, at the earliest."""
        return self.queue.next_expiry() or _NEVER

    def _fits(self, item: Waiting, stats: list[EngineStats]) -> bool:
        able = [
            replica for replica, room in enumerate(self.rooms) if room.fits(item.sequences, item.blocks, stats[replica])
        ]
        if self._placed is None or self._placed.job_id != item.job_id:
            self._placed = Placed(item.job_id, item.tokens, self._marks(item))
        chosen = self._placement.choose(able, self._placed, stats)
        if chosen is not None:
            self._chosen = chosen
        return chosen is not None

    def _marks(self, item: Waiting) -> tuple[PrefixMark, ...]:
        """See `engine.scheduling.prefix_marks`."""
        sequence, size = item.attempt.sequences[0], self._block_size
        if not self._affine or len(self.engines) == 1:
            return ()
        depths = []
        depth = 1
        while depth * size < sequence.begin:
            depths.append(depth)
            depth *= 2
        names = sequence.block_names(depths[-1], size) if depths else []
        return tuple([PrefixMark(names[depth - 1], depth * size) for depth in depths])
