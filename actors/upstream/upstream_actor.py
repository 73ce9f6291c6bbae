"""The actor of one upstream: runs calls on its addresses, delivers outputs, and reports failures.

To the dispatcher it behaves like an engine: `StartJob` and `CancelJob` come in, outputs and `JobsFinished` go out. A
call runs in a task that makes one call after the other, and its errors must not reach the actor, which would end all
other calls.
"""

from collections.abc import Callable
from functools import partial

import structlog
import trio

from actors.kernel.actor import Actor, Mailbox
from actors.protocol.delivery import StreamNotice, TextDelta
from actors.protocol.job import (
    CancelJob,
    EngineDown,
    EngineMessage,
    EngineUp,
    Job,
    JobsFinished,
    QueueMessage,
    StartJob,
    UpstreamCall,
)
from actors.upstream.address_calls import AddressCalls
from actors.upstream.call_tracker import CallTracker
from actors.upstream.client import UpstreamClient
from actors.upstream.failures.failure import Failure
from actors.upstream.upstream_status import UpstreamStatus
from config.model.upstreams import UpstreamSettings
from policies.fallback.fallback_machine import AttemptFailed, RungRefused

log = structlog.get_logger()


_IDLE_CALLERS = 64
"""Tasks that wait for another call."""


class _Caller:
    """A task that makes calls in a cancel scope of its own: its present call is cancelled, and the task with it.

    A new task and scope for each call would cost a twentieth of a whole answer.
    """

    __slots__ = ("_idle", "_task", "cancelled", "scope", "work")

    def __init__(self, work: tuple[Job, UpstreamCall], idle: "list[_Caller]") -> None:
        self.scope = trio.CancelScope()
        self.cancelled = False
        self.work: tuple[Job, UpstreamCall] | None = work
        self._idle = idle
        self._task: trio.lowlevel.Task | None = None

    def give(self, work: tuple[Job, UpstreamCall]) -> None:
        """Its next call."""
        self.work = work
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    def cancel(self) -> None:
        """Its present call, and the task."""
        self.cancelled = True
        self.scope.cancel()

    async def wait(self) -> None:
        """Until it has been given one."""
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        self._idle.remove(self)
        return trio.lowlevel.Abort.SUCCEEDED


class UpstreamActor(Actor[EngineMessage]):
    """One incarnation of an upstream's actor; a restart creates a new object."""

    def __init__(
        self,
        mailbox: Mailbox[EngineMessage],
        *,
        dispatch: Mailbox[QueueMessage],
        published: UpstreamStatus,
        settings: UpstreamSettings,
        client: Callable[[], UpstreamClient],
        jobs_wait: Callable[[], bool],
    ) -> None:
        """`jobs_wait`: whether jobs wait in the queue."""
        super().__init__(mailbox)
        self._jobs_wait = jobs_wait
        self._dispatch = dispatch
        self._published = published
        self._settings = settings
        self._make_client = client
        self._calls = CallTracker(settings.concurrent)
        self._callers: dict[int, _Caller] = {}
        """By call: the task that makes it."""
        self._idle: list[_Caller] = []
        """Tasks that wait for a call."""
        self._finished: list[Job] = []
        self._silent_since: dict[int, float] = {}
        """By job that has given no output yet: its start."""
        self._first_s: list[tuple[str, float]] = []
        self._unreported_tokens: dict[str, int] = {}
        """Output tokens by tenant that were not reported to the dispatcher yet."""
        self._tokens_total = 0
        """Output tokens of ended calls only, so that corrections cannot decrease the total."""
        self._nursery: trio.Nursery | None = None
        self._address_calls: AddressCalls | None = None

    async def run(self) -> None:
        published = self._published
        if published.epoch:
            published.restarts += 1
        published.epoch += 1
        client = self._make_client()
        self._address_calls = AddressCalls(
            published, self._settings, client, has_slot=self._has_slot, on_tokens=self._count_tokens
        )
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(client.run)
                published.state, published.why, published.down_until = "ready", None, None
                self._publish()
                assert published.limits is not None
                self._dispatch.put_unbounded(EngineUp(published.name, published.epoch, published.limits))
                await super().run()
        finally:
            message = f"The actor of the upstream {published.name} has ended."
            published.state, published.why = "failed", message
            published.inside = published.running = published.waiting = published.generation_tokens_total = 0
            self._dispatch.put_unbounded(EngineDown(published.name, published.epoch, "upstream_stopped", message))
            client.close()

    def on(self, message: EngineMessage) -> None:
        """Start and drop jobs; an engine's other messages are not sent to upstreams."""
        match message:
            case StartJob(job, epoch):
                if epoch == self._published.epoch:
                    self._silent_since[job.job_id] = self._clock()
                    self._calls.start(job, tuple([call for call in job.sequences if isinstance(call, UpstreamCall)]))
            case CancelJob(job):
                self._drop(job)

    def after_batch(self) -> None:
        """Start calls that have a slot, and report finished jobs to the dispatcher."""
        self._start_calls()
        if self._finished:
            self._report_finished()
        self._publish()

    def _start_calls(self) -> None:
        assert self._nursery is not None
        while (started := self._calls.next_call()) is not None:
            if self._idle:
                caller = self._idle.pop()
                caller.give(started)
            else:
                caller = _Caller(started, self._idle)
                self._nursery.start_soon(self._make_calls, caller)
            self._callers[started[1].sequence_id] = caller

    def _report_finished(self) -> None:
        tokens = {tenant: tokens for tenant, tokens in self._unreported_tokens.items() if tokens > 0}
        for job in self._finished:
            self._silent_since.pop(job.job_id, None)
        finished = JobsFinished(self._published.name, tuple(self._finished), tokens, tuple(self._first_s))
        self._finished.clear()
        self._first_s.clear()
        self._unreported_tokens = {}
        # Otherwise the dispatcher reads it before the next `Enqueue`.
        put = self._dispatch.put_unbounded if self._jobs_wait() else self._dispatch.put_deferred
        put(finished)

    def _publish(self) -> None:
        published = self._published
        published.inside, published.running, published.waiting = self._calls.figures()
        published.generation_tokens_total = self._tokens_total

    def _has_slot(self) -> bool:
        return self._calls.running < self._settings.concurrent

    def _count_tokens(self, tokens: int) -> None:
        self._tokens_total += tokens

    def _drop(self, job: Job) -> None:
        """Cancel the calls' tasks, which closes their connections."""
        calls = self._calls.drop(job)
        if calls is None:
            return
        for call in calls:
            self._callers[call].cancel()
        self._finished.append(job)

    # --- a call's task ------------------------------------------------------------------------------------------

    async def _make_calls(self, caller: _Caller) -> None:
        with caller.scope:
            while caller.work is not None:
                work, caller.work = caller.work, None
                await self._run_call(*work)
                if caller.cancelled or len(self._idle) >= _IDLE_CALLERS:
                    break
                self._idle.append(caller)
                self.after_batch()
                if caller.work is None:
                    await caller.wait()
        self.after_batch()

    async def _run_call(self, job: Job, call: UpstreamCall) -> None:
        failure: Failure | None = None
        try:
            assert self._address_calls is not None
            failure = await self._address_calls.run(call, job.deadline, partial(self._hand_out, job, call))
        except Exception as error:
            # A defect in one call must not end the others.
            log.exception("upstream_call_failed", upstream=self._published.name)
            failure = Failure(kind="upstream_error", message=f"The call could not be made ({type(error).__name__}).")
        finally:
            if failure is not None and self._calls.job_of(call.sequence_id) is job:
                self._fail(job, failure)
            if self._calls.job_of(call.sequence_id) is job:
                # The whole actor is ending: the dispatcher informs the reader.
                self._calls.drop(job)
            self._calls.gone(call.sequence_id)
            del self._callers[call.sequence_id]

    def _hand_out(self, job: Job, call: UpstreamCall, output: TextDelta) -> None:
        if self._calls.job_of(call.sequence_id) is None:
            return
        if (since := self._silent_since.pop(job.job_id, None)) is not None:
            self._first_s.append((job.tenant, self._clock() - since))
        self._unreported_tokens[job.tenant] = self._unreported_tokens.get(job.tenant, 0) + output.token_count
        kept = job.delivery.put(job.job_id, output)
        if output.finish is not None:
            if self._calls.complete(call.sequence_id) is not None:
                self._finished.append(job)
                self._report_finished()
            self._publish()
        elif not kept:
            self._drop(job)
            self.after_batch()

    def _fail(self, job: Job, failure: Failure) -> None:
        """One call has failed, and the whole attempt with it."""
        self._drop(job)
        notice: StreamNotice
        if failure.refused:
            notice = RungRefused(
                why=failure.kind,
                message=failure.client_message,
                retry_after_s=failure.retry_after_s,
                lasting=failure.fault == "client",
                upstream_error=failure.upstream_error,
            )
        else:
            notice = AttemptFailed(
                kind=failure.kind,
                message=failure.client_message,
                retryable=failure.retryable,
                retry_after_s=failure.retry_after_s,
                rung_is_up=failure.by_model,
                upstream_error=failure.upstream_error,
            )
        job.delivery.notify(job.job_id, notice)
