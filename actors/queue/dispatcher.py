"""The fair queues' actor: takes offers in or refuses them, and hands work to engines that have room.

Whatever becomes of a work, its delivery is told exactly once: it was taken, or why it was not.
"""

from collections.abc import Mapping

import trio

from actors.kernel.actor import Actor
from actors.kernel.mailbox import Mailbox
from actors.kernel.timers import TimerWheel
from actors.protocol.messages import (
    CancelJob,
    DraftTokens,
    EngineDown,
    EngineUp,
    Enqueue,
    Job,
    JobFailed,
    JobRejected,
    JobsFinished,
    JobStarted,
    QueueAlarm,
    QueueMessage,
    StartJob,
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
    """The lanes outlive its restarts."""

    def __init__(
        self,
        mailbox: Mailbox[QueueMessage],
        lanes: Mapping[str, BackendQueue],
        wheel: TimerWheel,
    ) -> None:
        super().__init__(mailbox)
        self._lanes = lanes
        self._wheel = wheel
        self._watch = wheel.watch(float("inf"), self._alarm)
        self._touched: set[str] = set(lanes)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            # What an earlier life took in and did not move on must not wait for the next message.
            self.after_batch()
            await super().run()
        finally:
            self._wheel.cancel(self._watch)

    def on(self, message: QueueMessage) -> None:
        """Note what has changed; the lanes that it touched move on when all messages are read."""
        match message:
            case Enqueue(work):
                self._offer(work)
            case JobsFinished(engine, works, made):
                lane = self._lanes[engine]
                for work in works:
                    lane.leave(work)
                for tenant, tokens in made.items():
                    lane.queue.charge(tenant, tokens)
                self._touched.add(engine)
            case Withdraw(work):
                lane = self._lanes[work.engine]
                if lane.queue.remove(work.id) is None and (seat := lane.seat_of(work)) is not None:
                    seat.mailbox.put_owed(CancelJob(work))
                self._touched.add(work.engine)
            case DraftTokens(work):
                seat = self._lanes[work.engine].seat_of(work)
                if seat is not None:
                    seat.mailbox.put_owed(message)
            case EngineUp(engine, epoch, replica=replica):
                self._lanes[engine].seats[replica].epoch = epoch
                self._touched.add(engine)
            case EngineDown(engine, _, code, message=why, replica=replica):
                lane = self._lanes[engine]
                self._engine_down(lane, lane.seats[replica], code, why)
            case QueueAlarm():
                self._touched.update(self._lanes)

    def after_batch(self) -> None:
        """Hand over what has room."""
        if self._touched:
            now = trio.current_time()
            for name in self._touched:
                self._move_on(self._lanes[name], now)
            self._touched.clear()
            self._set_alarm(now)

    def _offer(self, work: Job) -> None:
        lane = self._lanes[work.engine]
        if work.delivery.closed:
            return
        if not lane.up:
            work.delivery.say(work.id, JobRejected(*lane.down_why))
            return
        now = trio.current_time()
        if work.engine in self._touched:
            # Those that came in the same breath must not fill a line that the engine has room for.
            self._move_on(lane, now)
        try:
            answer = lane.queue.offer(work, now)
        except UnknownTenant:
            # It began under a policy that had a line for it.
            work.delivery.say(
                work.id, JobRejected("line_gone", "The policy has no line any more in which it could wait.", 1.0)
            )
            return
        if isinstance(answer, QueueFull):
            work.delivery.say(work.id, JobRejected("queue_full", str(answer), answer.retry_after_s))
            return
        self._touched.add(work.engine)

    def _move_on(self, lane: BackendQueue, now: float) -> None:
        queue = lane.queue
        while lane.up and len(queue) and (work := queue.take(now, lane.fits)) is not None:
            seat = lane.enter(work)
            assert seat.epoch is not None
            work.delivery.say(work.id, JobStarted(now))
            seat.mailbox.put_owed(StartJob(work, seat.epoch))
        for work in queue.expire(now):
            work.delivery.say(work.id, JobRejected("queue_timeout", "It waited in the queue for too long.", 1.0))

    def _engine_down(self, lane: BackendQueue, seat: ReplicaSlot, code: str, why: str) -> None:
        seat.epoch = None
        for work in lane.clear(seat):
            work.delivery.say(work.id, JobFailed(code, why, rung_is_up=lane.up))
        if lane.up:
            return
        lane.down_why = ("engine_down", f"The engine {lane.board.name} is being restarted.")
        for work in lane.queue.expire(trio.current_time()):
            work.delivery.say(work.id, JobRejected("queue_timeout", "It waited in the queue for too long.", 1.0))
        for work in lane.queue.clear():
            work.delivery.say(work.id, JobRejected(*lane.down_why))

    def _set_alarm(self, now: float) -> None:
        due = float("inf")
        for lane in self._lanes.values():
            if len(lane.queue):
                due = min(due, lane.queue.next_expiry() or due, now + _LOOK_AGAIN_S)
            elif lane.inside:
                due = min(due, now + _LOOK_AGAIN_S)
        if due != float("inf") and not now < self._watch.due <= due:
            self._wheel.move(self._watch, due)

    def _alarm(self) -> None:
        self.mailbox.put_owed(QueueAlarm())
