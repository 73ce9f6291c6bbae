"""The queue of one backend: a fair queue in front of its replicas, and which job may start when on which of them.

Jobs wait in the fair queue, where priorities and fairness hold. The next job leaves it as soon as some replica can
start it soon (`EngineCapacity`), for the replica that `Placement` chooses. A job that is expected to give its first
output too late is rejected at once, and one that waits as soon as that is expected.

Sans-IO: the owner reports events and carries out `effects`. They are kept until they are taken, so that an owner that
fails between two of them can continue later. Every job that was offered is started or rejected exactly once, unless it
is withdrawn before; one that was started ends with `finished`, or with `Fail` when its replica goes down. What was
running at a crash is started alone (`Quarantine`).
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from config.model.tenancy import TenantSettings, TierSettings
from policies.errors import QUARANTINED, IntegrityError, UnknownTenant
from policies.queueing.fair_queue import FairQueue
from policies.queueing.placement import EngineCapacity, Placed, Placement, PrefixMark, ReplicaFigures
from policies.queueing.quarantine import Quarantine
from policies.queueing.queue_item import Accepted, FairQueueStatistics, QueueFull, QueueItem
from policies.queueing.replica_pace import ReplicaPace


class BackendJob(QueueItem, frozen=True, kw_only=True):
    """What the queue needs of a job beyond its order. Subclass it."""

    best_effort: bool = False
    """It waits apart from the others, and starts while none of them waits."""
    waits_for_restart: bool = False
    """While no replica is up it waits for one; other jobs are rejected then."""

    @property
    def sequence_count(self) -> int:
        raise NotImplementedError

    @property
    def prompt_lengths(self) -> Sequence[int]:
        """Prompt tokens of each sequence, for those that take KV blocks."""
        raise NotImplementedError

    def prefix_marks(self, block_size: int) -> tuple[PrefixMark, ...]:
        """Marks of its prompt's prefixes; called only if replicas cache prefixes."""
        raise NotImplementedError

    @property
    def content(self) -> bytes:
        """Digest of what is asked; needed only after a crash."""
        raise NotImplementedError


J = TypeVar("J", bound=BackendJob)


class StartOn(msgspec.Struct, Generic[J], frozen=True, gc=False):
    """Start the job on this replica, in this epoch of it."""

    job: J
    replica: int
    epoch: int


class CancelOn(msgspec.Struct, Generic[J], frozen=True, gc=False):
    """Cancel a job that was withdrawn while the replica has it; `finished` follows."""

    job: J
    replica: int


class Reject(msgspec.Struct, Generic[J], frozen=True, gc=False):
    """The job was not admitted, or expired."""

    job: J
    reason: str
    message: str
    retry_after_s: float | None = None
    fatal: bool = False
    """No backend takes it: it is quarantined."""
    restarts: bool = False
    """No replica is up, but one will be soon."""
    lasting: bool = False
    """It never fits."""


class Fail(msgspec.Struct, Generic[J], frozen=True, gc=False):
    """The replica went down while it had the job."""

    job: J
    code: str
    message: str
    rung_is_up: bool
    fatal: bool = False
    """It is quarantined by this crash."""
    restarts: bool = False
    """The replica is being restarted."""


BackendQueueEffect = StartOn[J] | CancelOn[J] | Reject[J] | Fail[J]


class _ReplicaSlot(msgspec.Struct, Generic[J], eq=False):
    capacity: EngineCapacity
    epoch: int | None = None
    """Of its present life; None: it takes no jobs."""
    jobs: dict[str | int, J] = {}
    """Started and not ended."""
    alone: str | int | None = None
    """A job that was running at a crash, and beside which nothing is started ..."""
    alone_until: float = 0.0
    """... before this time."""
    alone_ends: bool = True
    """It was not withdrawn: its end shows that it crashes nothing."""


class BackendQueue(Generic[J]):
    """Mutable; owned by the task that dispatches jobs. `figures`: of all replicas; None: not known yet."""

    def __init__(  # noqa: PLR0917  (what a queue is made of)
        self,
        name: str,
        queue: FairQueue[J],
        capacities: Sequence[EngineCapacity],
        prefix_block: int | None = None,
        quarantine: Quarantine | None = None,
        best_effort: FairQueue[J] | None = None,
    ) -> None:
        """`capacities`: one for each replica. They are all down until `replica_up`.

        `prefix_block`: the replicas keep prefixes of prompts, in blocks of so many tokens; None: they do not.
        `quarantine`: shared by all queues of engines, whose requests can crash them; None: of an upstream.
        `best_effort`: of the best-effort jobs. They wait apart, so that no measure of `queue` depends on them.
        """
        self._quarantine = quarantine
        self._name = name
        self._queue = queue
        self._queues = (queue,) if best_effort is None else (queue, best_effort)
        """What waits in the first is before all that waits in the second."""
        self._replicas = [_ReplicaSlot[J](capacity) for capacity in capacities]
        self._up: set[int] = set()
        """Replicas that take jobs."""
        self._where: dict[str | int, int] = {}
        self._prefix_block = prefix_block
        self._placement = Placement(len(self._replicas), prefix_block or 1) if len(self._replicas) > 1 else None
        self._pace = ReplicaPace(len(self._replicas))
        self.ejections: deque[tuple[int, float]] = deque()
        """(replica, seconds): those that get no jobs for so long, as they are too slow; take each from the left."""
        self._placed: Placed | None = None
        """The job that was checked last ..."""
        self._chosen = 0
        """... and the replica where it fits."""
        self._shed_at = _NEVER
        """When those that wait are checked next: nothing depends on how often `advance` is called."""
        self._down_why = ("engine_loading", f"The engine {name} is being loaded.")
        self._restarts = False
        """It was up, and has crashed."""
        self.effects: deque[BackendQueueEffect[J]] = deque()
        """The pending ones, in order: take each from the left, and carry it out."""
        self.changed = False
        """Since the last `advance` an event came that may let a job start."""

    def __len__(self) -> int:
        """Jobs that wait, without best-effort ones."""
        return len(self._queue)

    @property
    def anything_waits(self) -> bool:
        return bool(self._queue.use.requests or self._queues[-1].use.requests)

    @property
    def up(self) -> bool:
        return bool(self._up)

    @property
    def in_hand(self) -> int:
        """Jobs that were started and have not ended."""
        return len(self._where)

    def replica_of(self, job_id: str | int) -> int | None:
        return self._where.get(job_id)

    @property
    def ejected_total(self) -> Sequence[int]:
        """By replica."""
        return self._pace.ejected_total

    def offer(self, job: J, now: float, figures: Sequence[ReplicaFigures | None]) -> None:
        """Start the job if none waits before it, enqueue it, or reject it."""
        if not (self.up or (self._restarts and job.waits_for_restart)):
            self.effects.append(Reject(job, *self._down_why, restarts=self._restarts))
            return
        if self._refuse_held(job, now):
            return
        if self.changed:
            # Jobs that were offered just before must not fill the queue while a replica could start them.
            self.advance(now, figures)
        self.changed = True
        queue = self._queues[-1] if job.best_effort else self._queue
        must_wait = self.anything_waits if job.best_effort else queue.use.requests
        starts = not must_wait and self._fits(job, figures, now)
        answer: QueueFull | Accepted | None
        try:
            answer = queue.pass_by(job, now) if starts else queue.offer(job, now)
        except UnknownTenant:
            # It began under a policy that had a queue for this tenant.
            message = "The policy was changed and has no queue for this tenant now; send the request again."
            self.effects.append(Reject(job, "line_gone", message, 1.0))
            return
        if answer is None:
            self._start(job, figures, now)
            return
        self.effects += [_refused(other, why) for other, why in queue.displaced()]
        if isinstance(answer, QueueFull):
            self.effects.append(_refused(job, answer))
        elif self._shed_at == _NEVER and job.first_by is not None:
            self._shed_at = now + _SHED_EVERY_S

    def may_refuse(self, tenant: str) -> bool:
        """See `FairQueue.may_refuse`."""
        return self._queue.may_refuse(tenant)

    def refuses(self, item: QueueItem, now: float) -> QueueFull | None:
        """Why `offer` would reject this newcomer, whatever its size; None: it may be accepted. Nothing is counted."""
        if self.changed or not self.up:
            # What waits may start now, or is not what the rejection would name.
            return None
        return self._queue.refuses(item, now)

    def refused_early(self, item: QueueItem, now: float) -> None:
        """A newcomer was refused because of `refuses`, and not offered: count it."""
        self._queue.refused_early(item, now)

    def withdraw(self, job_id: str | int) -> None:
        """The job is not needed any more: dequeue it, or cancel it on its replica."""
        self.changed = True
        if any(queue.remove(job_id) is not None for queue in self._queues):
            return
        number = self._where.get(job_id)
        if number is not None:
            slot = self._replicas[number]
            slot.alone_ends = slot.alone_ends and slot.alone != job_id
            self.effects.append(CancelOn(slot.jobs[job_id], number))

    def finished(self, job_ids: Iterable[str | int]) -> None:
        """These jobs have ended on their replica. Without effect for a job lost with its replica."""
        self.changed = True
        for job_id in job_ids:
            number = self._where.pop(job_id, None)
            if number is None:
                continue
            slot = self._replicas[number]
            job = slot.jobs.pop(job_id)
            slot.capacity.leave(job.sequence_count, best_effort=job.best_effort)
            if slot.alone == job_id:
                slot.alone = None
                if slot.alone_ends and self._quarantine is not None:
                    self._quarantine.ended(job.content)
            if self._placement is not None:
                self._placement.leave(number, job_id)

    def charge(self, made: Mapping[str, int]) -> None:
        """Count the output tokens of each tenant, which decide the order between tenants."""
        self.changed = True
        for tenant, tokens in made.items():
            self._queue_of(tenant).charge(tenant, tokens)

    def first_outputs(self, seconds: Iterable[tuple[str, float]]) -> None:
        """Jobs of these tenants gave their first outputs so long after their start."""
        for tenant, after_s in seconds:
            self._queue_of(tenant).first_output(tenant, after_s)

    def replica_up(self, replica: int, epoch: int) -> None:
        """The replica takes jobs. Every life of a replica has its own epoch."""
        self.changed = True
        self._replicas[replica].epoch = epoch
        self._up.add(replica)

    def replica_down(self, replica: int, code: str, message: str, now: float, *, crashed: bool = True) -> list[J]:
        """The replica is down and has lost its jobs. Without any replica only those that wait for its restart stay.

        `crashed`: one of its jobs may be the cause; False: it was stopped. Returns the jobs that are quarantined.
        """
        slot = self._replicas[replica]
        slot.epoch = slot.alone = None
        self._up.discard(replica)
        lost, slot.jobs = slot.jobs, {}
        slot.capacity.clear()
        self._pace.forget(replica)
        if self._placement is not None:
            self._placement.forget(replica)
        if crashed and self._quarantine is not None:
            self._quarantine.crashed([job.content for job in lost.values()], now, (self._name, replica))
        quarantined = []
        for job_id, job in lost.items():
            del self._where[job_id]
            if self._quarantine is not None and self._is_held(job, now):
                quarantined.append(job)
                self.effects.append(Fail(job, QUARANTINED, self._quarantine.message, self.up, fatal=True))
            else:
                self.effects.append(Fail(job, code, message, self.up, restarts=crashed))
        if self.up:
            return quarantined
        self._down_why = ("engine_down", f"The engine {self._name} is being restarted.")
        self._expire(now)
        self._restarts = crashed
        for queue in self._queues:
            for job in queue.clear():
                self.offer(job, now, ())
        return quarantined

    def marked_down(self, now: float) -> None:
        """It is not restarted for a while: nothing waits for that."""
        self._down_why = ("engine_down", f"The engine {self._name} has failed too often and is down.")
        self._restarts = False
        self._expire(now)
        self.effects += [Reject(job, *self._down_why) for queue in self._queues for job in queue.clear()]

    def advance(self, now: float, figures: Sequence[ReplicaFigures | None]) -> None:
        self.changed = False
        if len(self._replicas) > 1:
            self._judge(figures, now)
        for queue in self._queues:
            while queue.use.requests and self.up:
                job = queue.take(now, lambda each: self._fits(each, figures, now))
                if job is None:
                    break
                if not self._refuse_held(job, now):
                    self._start(job, figures, now)
            if queue.use.requests:
                break
        self._expire(now)
        if now >= self._shed_at:
            late = self._queue.shed(now)
            self.effects += [_refused(job, why) for job, why in late]
            self._shed_at = now + _SHED_EVERY_S if len(self._queue) else _NEVER

    def next_expiry(self) -> float | None:
        """When `advance` must be called at the latest while jobs wait."""
        expiries = [expiry for queue in self._queues if (expiry := queue.next_expiry()) is not None]
        return min([*expiries, self._shed_at]) if expiries else None

    def expected_wait_s(self, now: float) -> float:
        return self._queue.expected_wait_s(now)

    def waiting(self, tier: str) -> int:
        return self._queue.waiting(tier)

    def statistics(self) -> FairQueueStatistics:
        return self._queue.statistics()

    def apply_settings(
        self,
        tiers: Mapping[str, TierSettings],
        tenants: Mapping[str, TenantSettings],
        best_effort: tuple[Mapping[str, TierSettings], Mapping[str, TenantSettings]] | None = None,
    ) -> None:
        """`best_effort`: the tiers and tenants of the best-effort jobs."""
        self._queue.apply_settings(tiers, tenants)
        if best_effort is not None:
            self._queues[-1].apply_settings(*best_effort)

    def _queue_of(self, tenant: str) -> FairQueue[J]:
        for queue in self._queues:
            if queue.knows(tenant):
                return queue
        return self._queue

    def is_settled(self, sequences: int, blocks: int, figures: Sequence[ReplicaFigures | None]) -> bool:
        """Whether no replica can start such a job before another one ends. See `EngineCapacity`."""
        return all(
            slot.capacity.is_settled(sequences, blocks, each)
            for slot, each in zip(self._replicas, figures, strict=True)
        )

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if a job was lost or is kept in two places, or a capacity does not add up."""
        for queue in self._queues:
            queue.check_integrity()
        if self._up != {number for number, slot in enumerate(self._replicas) if slot.epoch is not None}:
            raise IntegrityError("the replicas that are up differ from those that have an epoch")
        started = {job_id: number for number, slot in enumerate(self._replicas) for job_id in slot.jobs}
        if started != self._where:
            raise IntegrityError("the replicas' jobs differ from those that were started")
        for number, slot in enumerate(self._replicas):
            if slot.capacity.sequences != sum([job.sequence_count for job in slot.jobs.values()]):
                raise IntegrityError(f"the sequences of replica {number} differ from those of its jobs")
            if slot.epoch is None and slot.jobs:
                raise IntegrityError(f"replica {number} is down and has jobs")
            if slot.alone is not None and slot.alone not in slot.jobs:
                raise IntegrityError(f"replica {number} waits for a job that it does not have")
        if not self.up and any(not job.waits_for_restart for queue in self._queues for job in queue):
            raise IntegrityError("jobs wait although no replica is up")
        if self._placement is not None:
            self._placement.check_integrity()

    def _fits(self, job: J, figures: Sequence[ReplicaFigures | None], now: float) -> bool:
        """Whether some replica can start it soon; that replica is `_chosen`. What is refused fits, too."""
        if self._is_held(job, now):
            return True
        sequences, runs_alone = job.sequence_count, self._runs_alone(job, now)
        elsewhere = self._is_lost_by(job) if runs_alone else None
        up = [(number, slot) for number, slot in enumerate(self._replicas) if slot.epoch is not None]
        able = [
            number
            for number, slot in [each for each in up if not self._pace.is_ejected(each[0], now)] or up
            if not (runs_alone and (slot.jobs or number == elsewhere))
            and (slot.alone is None or now >= slot.alone_until)
            and slot.capacity.fits(sequences, slot.capacity.blocks(job), figures[number], best_effort=job.best_effort)
        ]
        if self._placement is None:
            return bool(able)
        if self._placed is None or self._placed.job_id != job.job_id:
            marks = () if self._prefix_block is None else job.prefix_marks(self._prefix_block)
            self._placed = Placed(job.job_id, job.tokens, marks)
        number = self._placement.choose(able, self._placed, figures)
        if number is not None:
            self._chosen = number
        return number is not None

    def _judge(self, figures: Sequence[ReplicaFigures | None], now: float) -> None:
        for number, each in enumerate(figures):
            if each is None:
                continue
            for_s = self._pace.step(number, each.steps_total, each.step_tokens, each.step_s, now)
            if for_s is not None:
                self.ejections.append((number, for_s))

    def _start(self, job: J, figures: Sequence[ReplicaFigures | None], now: float) -> None:
        number = self._chosen
        slot = self._replicas[number]
        if self._quarantine is not None and self._runs_alone(job, now):
            slot.alone, slot.alone_until, slot.alone_ends = job.job_id, now + self._quarantine.alone_s, True
        assert slot.epoch is not None, "only a replica that is up was chosen"
        self._where[job.job_id] = number
        slot.jobs[job.job_id] = job
        blocks = slot.capacity.blocks(job)
        slot.capacity.enter(job.sequence_count, blocks, figures[number], best_effort=job.best_effort)
        if self._placement is not None and self._placed is not None:
            self._placement.enter(number, self._placed, figures[number])
        self.effects.append(StartOn(job, number, slot.epoch))

    def _runs_alone(self, job: J, now: float) -> bool:
        quarantine = self._quarantine
        if quarantine is None or not quarantine:
            return False
        return quarantine.alone_s > 0 and quarantine.is_suspect(job.content, now)

    def _is_lost_by(self, job: J) -> int | None:
        """The replica that crashed with it last, if another one is up: that one shows which of both is broken."""
        if self._quarantine is None or sum([slot.epoch is not None for slot in self._replicas]) < 2:
            return None
        name, replica = self._quarantine.lost_by(job.content)
        return replica if name == self._name else None

    def _is_held(self, job: J, now: float) -> bool:
        quarantine = self._quarantine
        return quarantine is not None and bool(quarantine) and quarantine.holds(job.content, now)

    def _refuse_held(self, job: J, now: float) -> bool:
        """Whether it is quarantined; then it is rejected."""
        if self._quarantine is None or not self._is_held(job, now):
            return False
        self.effects.append(Reject(job, QUARANTINED, self._quarantine.message, fatal=True))
        return True

    def _expire(self, now: float) -> None:
        for queue in self._queues:
            for job in queue.expire(now):
                self.effects.append(Reject(job, "queue_timeout", "It waited in the queue for too long.", 1.0))


def reason_code(why: QueueFull) -> str:
    """Of a rejection, as clients get it."""
    if why.reason == "larger_than_queue":
        return why.reason
    return "wait_too_long" if why.reason in {"wait_too_long", "overload"} else "queue_full"


def _refused(job: J, why: QueueFull) -> Reject[J]:
    lasting = why.reason == "larger_than_queue"
    return Reject(job, reason_code(why), str(why), why.retry_after_s, lasting=lasting)


_SHED_EVERY_S = 0.1
_NEVER = float("inf")
