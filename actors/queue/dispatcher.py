"""The backend queues' actor: takes jobs in or rejects them, and hands them to replicas that have capacity.

Every job's delivery gets exactly one notice: that it started, or why it did not.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec
import structlog

from actors.api.engine_status import BackendStatus, EngineStatus
from actors.api.statistics import QueueStatistics
from actors.kernel.actor import Actor, Mailbox
from actors.kernel.timers import TimerWheel
from actors.protocol.delivery import JobStarted
from actors.protocol.job import (
    BackendDown,
    CancelJob,
    DraftTokens,
    EngineDown,
    EngineMessage,
    EngineUp,
    Enqueue,
    Job,
    JobsFinished,
    QueueAlarm,
    QueueMessage,
    RefusedEarly,
    StartJob,
    Withdraw,
)
from engine.messages import EngineStats
from policies.fallback.fallback_machine import AttemptFailed, RungRefused
from policies.queueing.backend_queue import BackendQueue, CancelOn, Fail, Reject, StartOn

_LOOK_AGAIN_S = 0.05
"""While jobs wait or run, capacity is checked this often: blocks also become free before a job ends, and ends are
reported without a wake-up while no job waits."""
log = structlog.get_logger()


class ReplicaSlot(msgspec.Struct, frozen=True):
    """One replica of an engine. An engine without replicas has one, and so has an upstream."""

    published: EngineStatus
    mailbox: Mailbox[EngineMessage]
    """Of its actor."""


class Backend(msgspec.Struct, frozen=True):
    """An engine with its replicas, or an upstream. Only the dispatcher moves the queue."""

    published: BackendStatus
    queue: BackendQueue[Job]
    slots: Sequence[ReplicaSlot]

    def statistics(self, now: float) -> QueueStatistics:
        waiting = self.queue.statistics()
        return QueueStatistics(
            requests=waiting.requests,
            tokens=waiting.tokens,
            inside=self.published.inside,
            refused_total=sum(waiting.refused_total.values()),
            expired_total=waiting.expired_total,
            expected_wait_s=self.queue.expected_wait_s(now),
        )


class Dispatcher(Actor[QueueMessage]):
    """The backend queues outlive its restarts."""

    redelivered: ClassVar[tuple[type, ...]] = (Withdraw, EngineUp, EngineDown, BackendDown, JobsFinished)
    """Handled twice, a job still leaves its queue or replica once; a tenant's last tokens may count twice in the fair
    queue's order and its measures, but not in quotas and budgets."""

    def __init__(self, mailbox: Mailbox[QueueMessage], backends: Mapping[str, Backend], timers: TimerWheel) -> None:
        super().__init__(mailbox)
        self._backends = backends
        self._timers = timers
        self._watch = timers.watch(float("inf"), self._alarm)
        self._alarmed = True

    async def run(self) -> None:
        try:
            # Effects that an earlier life left must not wait for the next message.
            self.after_batch()
            await super().run()
        finally:
            self._timers.cancel(self._watch)

    def on(self, message: QueueMessage) -> None:
        """Report the event to the queue; jobs are started in `after_batch`."""
        match message:
            case Enqueue(job):
                if not job.delivery.closed:
                    backend = self._backends[job.engine]
                    now = self._clock()
                    backend.queue.offer(job, now, _figures(backend))
                    self._carry_out(backend, now)
            case JobsFinished(engine, jobs, made, first_s):
                queue = self._backends[engine].queue
                queue.finished([job.job_id for job in jobs])
                queue.charge(made)
                queue.first_outputs(first_s)
            case Withdraw(job):
                backend = self._backends[job.engine]
                backend.queue.withdraw(job.job_id)
                self._carry_out(backend, self._clock())
            case DraftTokens(job):
                backend = self._backends[job.engine]
                replica = backend.queue.replica_of(job.job_id)
                if replica is not None:
                    backend.slots[replica].mailbox.put_unbounded(message)
            case EngineUp(engine, epoch, replica=replica):
                self._backends[engine].queue.replica_up(replica, epoch)
            case EngineDown(engine, _, code, message=why, replica=replica):
                backend = self._backends[engine]
                now = self._clock()
                for job in backend.queue.replica_down(replica, code, why, now, crashed=code != "engine_stopped"):
                    log.warning(
                        "request_quarantined",
                        content=job.content.hex(),
                        tenant=job.tenant,
                        engine=engine,
                        replica=replica,
                        crash=code,
                    )
                self._carry_out(backend, now)
            case BackendDown(name):
                backend = self._backends[name]
                now = self._clock()
                backend.queue.marked_down(now)
                self._carry_out(backend, now)
            case RefusedEarly(item, names):
                now = self._clock()
                for name in names:
                    self._backends[name].queue.refused_early(item, now)
            case QueueAlarm():
                self._alarmed = True

    def after_batch(self) -> None:
        """Start the jobs that fit."""
        now = self._clock()
        looked = False
        for backend in self._backends.values():
            if backend.queue.changed or self._alarmed:
                backend.queue.advance(now, _figures(backend))
                self._carry_out(backend, now)
                looked = True
        self._alarmed = False
        if looked:
            self._set_alarm(now)

    def _carry_out(self, backend: Backend, now: float) -> None:
        ejections, effects = backend.queue.ejections, backend.queue.effects
        while ejections:
            number, for_s = ejections.popleft()
            log.warning("engine_replica_ejected", engine=backend.published.name, replica=number, for_s=for_s)
        while effects:
            effect = effects.popleft()
            job = effect.job
            match effect:
                case StartOn(replica=replica, epoch=epoch):
                    job.delivery.notify(job.job_id, JobStarted(now))
                    mailbox, start = backend.slots[replica].mailbox, StartJob(job, epoch)
                    if not mailbox.handle_now(start):
                        mailbox.put_unbounded(start)
                case CancelOn(replica=replica):
                    backend.slots[replica].mailbox.put_unbounded(CancelJob(job))
                case Reject(reason=reason, message=message):
                    refused = RungRefused(
                        why=reason,
                        message=message,
                        retry_after_s=effect.retry_after_s,
                        fatal=effect.fatal,
                        restarts=effect.restarts,
                        lasting=effect.lasting,
                    )
                    job.delivery.notify(job.job_id, refused)
                case Fail(code=code, message=message, fatal=fatal):
                    failed = AttemptFailed(
                        kind=code,
                        message=message,
                        retryable=not fatal,
                        fatal=fatal,
                        rung_is_up=effect.rung_is_up,
                        restarts=effect.restarts,
                    )
                    job.delivery.notify(job.job_id, failed)

    def _set_alarm(self, now: float) -> None:
        due = float("inf")
        for backend in self._backends.values():
            if backend.queue.anything_waits:
                due = min(due, backend.queue.next_expiry() or due, now + _LOOK_AGAIN_S)
            elif backend.queue.in_hand:
                due = min(due, now + _LOOK_AGAIN_S)
        if due != float("inf") and not now < self._watch.due <= due:
            self._timers.move(self._watch, due)

    def _alarm(self) -> None:
        self.mailbox.put_unbounded(QueueAlarm())


def _figures(backend: Backend) -> list[EngineStats | None]:
    return [slot.published.stats for slot in backend.slots]
