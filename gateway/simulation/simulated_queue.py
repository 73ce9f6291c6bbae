"""The way into one simulated backend: the service's own `BackendQueue`, on the virtual clock."""

from collections.abc import Callable, Mapping

from config.model.settings import EngineSettings
from config.model.tenancy import TenantSettings, TierSettings
from engine.messages import EngineStats, sum_of_stats
from gateway.simulation.replayed_sequence import Replayed
from gateway.simulation.simulated_engine import SimulatedEngine
from policies.fallback.fallback_machine import RungRefused
from policies.queueing.backend_queue import BackendJob, BackendQueue, CancelOn, Fail, Reject, StartOn
from policies.queueing.fair_queue import FairQueue
from policies.queueing.placement import EngineCapacity, PrefixMark

_NEVER = float("inf")


class SimulatedJob(BackendJob, frozen=True, kw_only=True):
    """An attempt on its way into an engine."""

    sequences: list[Replayed]
    on_started: Callable[[float], None]
    """An engine has it."""
    on_rejected: Callable[[RungRefused, float], None]
    """Its time in the queue is up, or the queue is full."""
    prompt_length: int
    """Of every sequence, as the engine computes it."""

    @property
    def sequence_count(self) -> int:
        return len(self.sequences)

    @property
    def prompt_lengths(self) -> list[int]:
        return [self.prompt_length] * len(self.sequences)

    def prefix_marks(self, block_size: int) -> tuple[PrefixMark, ...]:
        """See `engine.scheduling.prefix_marks`."""
        sequence = self.sequences[0]
        depths = []
        depth = 1
        while depth * block_size < sequence.begin:
            depths.append(depth)
            depth *= 2
        names = sequence.block_names(depths[-1], block_size) if depths else []
        return tuple([PrefixMark(names[depth - 1], depth * block_size) for depth in depths])


class SimulatedQueue:
    """Does what the queue says, and tells it what the engines made."""

    def __init__(
        self,
        name: str,
        tiers: Mapping[str, TierSettings],
        tenants: Mapping[str, TenantSettings],
        settings: EngineSettings,
    ) -> None:
        block_size = settings.kv.block_size
        capacities = [EngineCapacity(settings.max_running, block_size) for _ in range(settings.replicas)]
        prefix_block = block_size if settings.prefix_cache else None
        self.queue: BackendQueue[SimulatedJob] = BackendQueue(name, FairQueue(tiers, tenants), capacities, prefix_block)
        for replica in range(settings.replicas):
            self.queue.replica_up(replica, 0)
        self.engines: list[SimulatedEngine] = []
        """One for each replica; filled once: queue and engines know each other."""
        self._blocks = capacities[0].blocks
        self._least_blocks = 0
        """No job that waits needs fewer."""

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
        return sum_of_stats(self._figures(now))

    def calm(self) -> bool:
        """No step by itself lets anything leave the queue.

        A step of one replica can do so where another one has room: what it makes is charged to its tenants, and so
        may change who is next.
        """
        return not len(self.queue) or self.queue.is_settled(1, self._least_blocks, self._figures(0.0))

    def offer(self, job: SimulatedJob, now: float) -> None:
        """Into the queue, and on if there is room."""
        self.move_on(now)
        blocks = self._blocks(job.prompt_lengths)
        least = min(self._least_blocks, blocks) if len(self.queue) else blocks
        waiting = len(self.queue)
        self.queue.offer(job, now, self._figures(now))
        if len(self.queue) > waiting:
            self._least_blocks = least
        self.move_on(now)

    def withdraw(self, job: SimulatedJob, now: float) -> None:
        """Nobody waits for it any more, wherever it is."""
        self.queue.withdraw(job.job_id)
        self.move_on(now)

    def finished(self, job: SimulatedJob) -> None:
        """All of its sequences have ended in the engine."""
        self.queue.finished((job.job_id,))

    def move_on(self, now: float) -> None:
        """Hand over what has room, and tell those whose time is up."""
        self.charge(now)
        self._carry_out(now)
        if not len(self.queue) and self.queue.next_expiry() is None:
            return
        self.queue.advance(now, self._figures(now))
        self._carry_out(now)
        if not self.calm():
            for engine in self.engines:
                # It may have planned ahead, but its next step may make room.
                engine.cut(now)

    def _carry_out(self, now: float) -> None:
        started: dict[int, list[Replayed]] = {}
        rejected = []
        for effect in self.queue.effects():
            job = effect.job
            match effect:
                case StartOn(replica=replica):
                    job.on_started(now)
                    started.setdefault(replica, []).extend(job.sequences)
                case CancelOn(replica=replica):
                    self.engines[replica].tell(now, (), [each for each in job.sequences if not each.finished])
                    self.queue.finished((job.job_id,))
                case Reject(reason=reason, retry_after_s=retry_after_s):
                    rejected.append((job, RungRefused(why=reason, retry_after_s=retry_after_s)))
                case Fail():
                    raise AssertionError("no simulated engine goes down")
        # Together, as a step loop finds them: an idle engine would begin its step without the others.
        for replica in sorted(started):
            self.engines[replica].tell(now, started[replica])
        for job, event in rejected:
            job.on_rejected(event, now)

    def charge(self, now: float) -> None:
        """Tell the queue what was made for each tenant."""
        for engine in self.engines:
            engine.catch_up(now)
            self.queue.charge(engine.made)
            engine.made.clear()

    def catch_up(self, now: float) -> None:
        """Carry out what the clock has passed."""
        for engine in self.engines:
            engine.catch_up(now)

    def next_expiry(self) -> float:
        """When somebody's time is up, at the earliest."""
        return self.queue.next_expiry() or _NEVER

    def _figures(self, now: float) -> list[EngineStats]:
        return [engine.stats(now) for engine in self.engines]
