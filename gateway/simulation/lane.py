"""The way into one simulated engine: the house's own fair queue and its own rule of when work may leave it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from config.who import TenantSettings, TierSettings
from gateway.simulation.engine import SimulatedEngine
from gateway.simulation.replayed import Replayed
from policies.fair_queue import FairQueue, QueueFull, QueueItem
from policies.room import Room

if TYPE_CHECKING:
    from gateway.simulation.answer import Attempt

_NEVER = float("inf")


class Waiting(QueueItem, frozen=True, kw_only=True):
    """An attempt in the line."""

    attempt: "Attempt"
    sequences: int
    blocks: int


class SimulatedLane:
    """What `actors.dispatch` and `actors.lane` do, on the virtual clock."""

    def __init__(
        self,
        tiers: Mapping[str, TierSettings],
        tenants: Mapping[str, TenantSettings],
        places: int,
        block_size: int,
    ) -> None:
        self.queue: FairQueue[Waiting] = FairQueue(tiers, tenants)
        self.room = Room(places, block_size)
        self.engine: SimulatedEngine
        """Set once: lane and engine know each other."""
        self._least_blocks = 0
        """No one that waits needs less."""

    def calm(self) -> bool:
        """No step by itself lets anything leave the queue."""
        if not len(self.queue):
            return True
        return self.room.is_settled(1, self._least_blocks, self.engine.stats(0.0))

    def offer(self, item: Waiting, now: float) -> QueueFull | None:
        """Into the line, and on if there is room; None: it was let in."""
        self.move_on(now)
        least = min(self._least_blocks, item.blocks) if len(self.queue) else item.blocks
        answer = self.queue.offer(item, now)
        if isinstance(answer, QueueFull):
            return answer
        self._least_blocks = least
        self.move_on(now)
        if not self.calm():
            self.engine.cut(now)
        return None

    def withdraw(self, item: Waiting, now: float) -> None:
        """Nobody waits for it any more, wherever it is."""
        if self.queue.remove(item.id) is None and item.attempt.taken:
            self.engine.tell(now, (), [each for each in item.attempt.sequences if not each.finished])
            self.room.leave(item.sequences)
        self.move_on(now)

    def freed(self, item: Waiting) -> None:
        """All of its sequences have ended in the engine."""
        self.room.leave(item.sequences)

    def move_on(self, now: float) -> None:
        """Hand over what has room, and tell those whose time is up."""
        queue, room = self.queue, self.room
        self.charge(now)
        if not len(queue) and queue.next_expiry() is None:
            return
        stats = self.engine.stats(now)
        started: list[Replayed] = []
        while len(queue):
            item = queue.take(now, lambda each: room.fits(each.sequences, each.blocks, stats))
            if item is None:
                break
            room.enter(item.sequences, item.blocks, stats)
            item.attempt.on_taken(now)
            started += item.attempt.sequences
        if started:
            self.engine.tell(now, started)
        for item in queue.expire(now):
            item.attempt.on_expired(now)

    def charge(self, now: float) -> None:
        """Tell the queue what was made for each tenant."""
        self.engine.catch_up(now)
        made = self.engine.made
        if made:
            for tenant, tokens in made.items():
                self.queue.charge(tenant, tokens)
            made.clear()

    def next_expiry(self) -> float:
        """When somebody's time is up, at the earliest."""
        return self.queue.next_expiry() or _NEVER
