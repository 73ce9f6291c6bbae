"""The queue of one simulated backend: the service's own `BackendQueue` in front of simulated engines."""

from collections.abc import Callable, Mapping

from config.model.settings import EngineSettings
from config.model.tenancy import TenantSettings, TierSettings
from engine.messages import EngineStats, sum_of_stats
from gateway.simulation.replayed_sequence import ReplayedSequence
from gateway.simulation.simulated_engine import SimulatedEngine
from policies.fallback.fallback_machine import RungRefused
from policies.queueing.backend_queue import BackendJob, BackendQueue, CancelOn, Fail, Reject, StartOn
from policies.queueing.fair_queue import FairQueue
from policies.queueing.placement import EngineCapacity, PrefixMark


class SimulatedJob(BackendJob, frozen=True, kw_only=True):
    """The job of one attempt."""

    sequences: list[ReplayedSequence]
    on_started: Callable[[float], None]
    on_rejected: Callable[[RungRefused, float], None]
    """Called when the queue is full, or the job has waited too long."""
    prompt_length: int
    """Prompt tokens of each sequence, as the engine computes them."""

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
    """Carries out the effects of a `BackendQueue`, and charges it with the tokens that the engines generate."""

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
        """One for each replica; added after construction, because the engines need `is_settled`."""
        self._blocks = capacities[0].blocks
        self._min_blocks = 0
        """At most the KV blocks that any waiting job needs."""

    @property
    def max_model_len(self) -> int:
        return self.engines[0].max_model_len

    @property
    def busy_s(self) -> float:
        """Seconds that a replica spent in steps, on average."""
        return sum([engine.busy_s for engine in self.engines]) / len(self.engines)

    def stats(self, now: float) -> EngineStats:
        """The sum over all replicas, as of their last steps."""
        return sum_of_stats(self._engine_stats(now))

    def is_settled(self) -> bool:
        """Whether no job can leave the queue because of a step alone.

        A step can also let a job start on another replica: the tokens of the step are charged to their tenants, which
        may change which job is next.
        """
        return not len(self.queue) or self.queue.is_settled(1, self._min_blocks, self._engine_stats(0.0))

    def offer(self, job: SimulatedJob, now: float) -> None:
        self.advance(now)
        blocks = self._blocks(job)
        least = min(self._min_blocks, blocks) if len(self.queue) else blocks
        self.queue.offer(job, now, self._engine_stats(now))
        if len(self.queue):
            self._min_blocks = least
        self.advance(now)

    def withdraw(self, job: SimulatedJob, now: float) -> None:
        self.queue.withdraw(job.job_id)
        self.advance(now)

    def finished(self, job: SimulatedJob) -> None:
        self.queue.finished((job.job_id,))

    def advance(self, now: float) -> None:
        self.charge(now)
        self._carry_out(now)
        if not len(self.queue) and self.queue.next_expiry() is None:
            return
        self.queue.advance(now, self._engine_stats(now))
        self._carry_out(now)
        if not self.is_settled():
            for engine in self.engines:
                # Its next step may make room, so a run must not skip over it.
                engine.cut(now)

    def _carry_out(self, now: float) -> None:
        started: dict[int, list[ReplayedSequence]] = {}
        rejected = []
        while self.queue.effects:
            effect = self.queue.effects.popleft()
            job = effect.job
            match effect:
                case StartOn(replica=replica):
                    job.on_started(now)
                    for sequence in job.sequences:
                        sequence.started_at = now
                    started.setdefault(replica, []).extend(job.sequences)
                case CancelOn(replica=replica):
                    left = [sequence for sequence in job.sequences if not sequence.finished]
                    self.engines[replica].submit(now, (), left)
                    self.queue.finished((job.job_id,))
                case Reject(reason=reason, message=message, retry_after_s=retry_after_s):
                    refused = RungRefused(why=reason, message=message, retry_after_s=retry_after_s)
                    rejected.append((job, refused))
                case Fail():
                    raise AssertionError("no simulated engine goes down")
        # All at once, as a step loop drains its commands: an idle engine begins a step with the first command.
        for replica, sequences in sorted(started.items()):
            self.engines[replica].submit(now, sequences)
        for job, event in rejected:
            job.on_rejected(event, now)

    def charge(self, now: float) -> None:
        for engine in self.engines:
            engine.catch_up(now)
            self.queue.charge(engine.uncharged_tokens)
            engine.uncharged_tokens.clear()
            self.queue.first_outputs(engine.first_s)
            engine.first_s.clear()

    def catch_up(self, now: float) -> None:
        for engine in self.engines:
            engine.catch_up(now)

    def _engine_stats(self, now: float) -> list[EngineStats]:
        return [engine.stats(now) for engine in self.engines]
