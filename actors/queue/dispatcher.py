"""The fair queues' actor: takes offers in or refuses them, and hands work to engines that have room.

Whatever becomes of a work, its delivery is told exactly once: it was taken, or why it was not.
"""

from collections.abc import Mapping
from typing import ClassVar

import trio

from actors.kernel.actor import Actor
from actors.kernel.mailbox import Mailbox
from actors.kernel.timers import TimerWheel
from actors.protocol.engine import CancelJob, StartJob
from actors.protocol.job import Job
from actors.protocol.outputs import JobFailed, JobRejected, JobStarted
from actors.protocol.queue import (
    DraftTokens,
    EngineDown,
    EngineUp,
    Enqueue,
    JobsFinished,
    QueueAlarm,
    QueueMessage,
    Withdraw,
)
from actors.queue.backend_queue import BackendQueue
from actors.queue.replica_slot import ReplicaSlot
from policies.errors import UnknownTenant
from policies.queueing.fair_queue import QueueFull

_LOOK_AGAIN_S = 0.05
"""While something waits or runs, room is looked for at least this often: blocks also become free without an end, and
ends come quietly while nothing waits."""


class Dispatcher(Actor[QueueMessage]):
    """The backend queues outlive its restarts."""

    redelivered: ClassVar[tuple[type, ...]] = (Withdraw, EngineUp, EngineDown, JobsFinished)
    """A job leaves a queue or a replica once; a tenant may be charged its last tokens twice in the fair queue's order,
    which no quota and no budget sees."""

    def __init__(
        self,
        mailbox: Mailbox[QueueMessage],
        backend_queues: Mapping[str, BackendQueue],
        timers: TimerWheel,
    ) -> None:
        super().__init__(mailbox)
        self._backend_queues = backend_queues
        self._timers = timers
        self._watch = timers.watch(float("inf"), self._alarm)
        self._touched: set[str] = set(backend_queues)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            # What an earlier life took in and did not move on must not wait for the next message.
            self.after_batch()
            await super().run()
        finally:
            self._timers.cancel(self._watch)

    def on(self, message: QueueMessage) -> None:
        """Note what has changed; the lanes that it touched move on when all messages are read."""
        match message:
            case Enqueue(job):
                self._offer(job)
            case JobsFinished(engine, jobs, made):
                backend_queue = self._backend_queues[engine]
                for job in jobs:
                    backend_queue.leave(job)
                for tenant, tokens in made.items():
                    backend_queue.queue.charge(tenant, tokens)
                self._touched.add(engine)
            case Withdraw(job):
                backend_queue = self._backend_queues[job.engine]
                if backend_queue.queue.remove(job.job_id) is None and (slot := backend_queue.slot_of(job)) is not None:
                    slot.mailbox.put_unbounded(CancelJob(job))
                self._touched.add(job.engine)
            case DraftTokens(job):
                slot = self._backend_queues[job.engine].slot_of(job)
                if slot is not None:
                    slot.mailbox.put_unbounded(message)
            case EngineUp(engine, epoch, replica=replica):
                self._backend_queues[engine].slots[replica].epoch = epoch
                self._touched.add(engine)
            case EngineDown(engine, _, code, message=why, replica=replica):
                backend_queue = self._backend_queues[engine]
                self._engine_down(backend_queue, backend_queue.slots[replica], code, why)
            case QueueAlarm():
                self._touched.update(self._backend_queues)

    def after_batch(self) -> None:
        """Hand over what has room."""
        if self._touched:
            now = trio.current_time()
            for name in self._touched:
                self._move_on(self._backend_queues[name], now)
            self._touched.clear()
            self._set_alarm(now)

    def _offer(self, job: Job) -> None:
        backend_queue = self._backend_queues[job.engine]
        if job.delivery.closed:
            return
        if not backend_queue.up:
            job.delivery.say(job.job_id, JobRejected(*backend_queue.down_why))
            return
        now = trio.current_time()
        if job.engine in self._touched:
            # Those that came in the same breath must not fill a line that the engine has room for.
            self._move_on(backend_queue, now)
        try:
            answer = backend_queue.queue.offer(job, now)
        except UnknownTenant:
            # It began under a policy that had a line for it.
            job.delivery.say(
                job.job_id, JobRejected("line_gone", "The policy has no line any more in which it could wait.", 1.0)
            )
            return
        if isinstance(answer, QueueFull):
            job.delivery.say(job.job_id, JobRejected("queue_full", str(answer), answer.retry_after_s))
            return
        self._touched.add(job.engine)

    def _move_on(self, backend_queue: BackendQueue, now: float) -> None:
        queue = backend_queue.queue
        while backend_queue.up and len(queue) and (job := queue.take(now, backend_queue.fits)) is not None:
            slot = backend_queue.enter(job)
            assert slot.epoch is not None
            job.delivery.say(job.job_id, JobStarted(now))
            slot.mailbox.put_unbounded(StartJob(job, slot.epoch))
        for job in queue.expire(now):
            job.delivery.say(job.job_id, JobRejected("queue_timeout", "It waited in the queue for too long.", 1.0))

    def _engine_down(self, backend_queue: BackendQueue, slot: ReplicaSlot, code: str, why: str) -> None:
        slot.epoch = None
        for job in backend_queue.clear(slot):
            job.delivery.say(job.job_id, JobFailed(code, why, rung_is_up=backend_queue.up))
        if backend_queue.up:
            return
        backend_queue.down_why = ("engine_down", f"The engine {backend_queue.published.name} is being restarted.")
        for job in backend_queue.queue.expire(trio.current_time()):
            job.delivery.say(job.job_id, JobRejected("queue_timeout", "It waited in the queue for too long.", 1.0))
        for job in backend_queue.queue.clear():
            job.delivery.say(job.job_id, JobRejected(*backend_queue.down_why))

    def _set_alarm(self, now: float) -> None:
        due = float("inf")
        for backend_queue in self._backend_queues.values():
            if len(backend_queue.queue):
                due = min(due, backend_queue.queue.next_expiry() or due, now + _LOOK_AGAIN_S)
            elif backend_queue.inside:
                due = min(due, now + _LOOK_AGAIN_S)
        if due != float("inf") and not now < self._watch.due <= due:
            self._timers.move(self._watch, due)

    def _alarm(self) -> None:
        self.mailbox.put_unbounded(QueueAlarm())
