"""Owns one engine or one replica: starts its thread or process, sends jobs, delivers outputs, watches progress.

Health is forward progress: while there is work, a step has to be reported within `stall`; while it is loaded, a part of
that within `load_stall`. An engine that fails or stalls ends this actor's life; its supervisor starts the next one with
a new thread or process and a new engine. No message is handed to the next life: `EngineDown` tells the dispatcher that
all jobs of this one are lost, and it tells their readers; adapters are loaded from what the registry wants.
"""

from collections.abc import Callable, Sequence

import msgspec
import structlog
import trio

from actors.api.engine_status import EngineStatus
from actors.api.errors import EngineLoadFailed, EngineLost
from actors.engines.engine_thread import (
    EngineLoaded,
    EngineLoading,
    EnginePost,
    EngineProgram,
    EngineSource,
    EngineThreads,
    LoadFailed,
    LoadProgress,
)
from actors.kernel.actor import Actor, Mailbox
from actors.kernel.thread_bridge import WorkerEvents, WorkerHandle
from actors.kernel.timers import TimerWheel
from actors.protocol.job import (
    CancelJob,
    DraftTokens,
    EngineDown,
    EngineMessage,
    EngineUp,
    Install,
    Job,
    JobsFinished,
    QueueMessage,
    StallAlarm,
    StartJob,
    Uninstall,
)
from engine.core.adapter_loading import load_adapters
from engine.core.loop import Stepping, Stop
from engine.lora.adapters import WantedAdapter
from engine.messages import (
    Abort,
    AddAdapter,
    Command,
    DropAdapter,
    EngineFailed,
    SequenceOutput,
    StepReport,
    TokenDelta,
)

_JOIN_S = 5.0
log = structlog.get_logger()


class _RunningJob:
    """A job in the engine."""

    __slots__ = ("job", "left", "silent_since")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.silent_since: float | None = trio.current_time()
        """Its start; None: it has given an output."""
        self.left = len(job.sequences)


class EngineActor(Actor[EngineMessage]):
    """One life of one engine, or of one replica."""

    def __init__(
        self,
        mailbox: Mailbox[EngineMessage],
        *,
        dispatch: Mailbox[QueueMessage],
        published: EngineStatus,
        source: EngineSource,
        workers: EngineThreads,
        timers: TimerWheel,
        stall_s: float,
        load_stall_s: float,
        jobs_wait: Callable[[], bool],
        adapters: Callable[[], Sequence[WantedAdapter]],
    ) -> None:
        """`jobs_wait`: whether jobs wait in the queue. `adapters`: those that the engine must load."""
        super().__init__(mailbox)
        self._jobs_wait = jobs_wait
        self._dispatch = dispatch
        self._published = published
        self._source = source
        self._adapters = adapters
        self._workers = workers
        self._timers = timers
        self._stall_s = stall_s
        self._load_stall_s = load_stall_s
        self._watch = timers.watch(float("inf"), self._alarm)
        self._worker: WorkerHandle | None = None
        self._loading = LoadProgress()
        self._sequences: dict[int, _RunningJob] = {}
        """By sequence: its job."""
        self._finished: list[Job] = []
        self._first_s: list[tuple[str, float]] = []
        self._output_tokens: dict[str, int] = {}
        """By tenant, since the last message to the dispatcher."""

    async def run(self) -> None:
        """Load the engine and serve until it fails or this is cancelled."""
        published = self._published
        if published.epoch:
            published.restarts += 1
        published.epoch += 1
        published.state, published.why = "loading", None
        code, message = "engine_stopped", f"The engine {published.title} was stopped."
        self._worker = self._workers.engine(published.title, self._with_adapters(), self._on_posts)
        self._timers.move(self._watch, self._clock() + self._load_stall_s)
        try:
            await super().run()
        except EngineLost as lost:
            code, message = lost.code, str(lost)
            raise
        except Exception as error:
            code, message = "engine_actor_failed", f"The actor of engine {published.title} failed: {error!r}"
            raise
        finally:
            published.state, published.why = "failed", message
            published.stats = None
            published.inside = 0
            published.adapters, published.adapter_uses = {}, ()
            self._timers.cancel(self._watch)
            self._worker.abandon()
            self._worker.send(Stop())
            self._dispatch.put_unbounded(EngineDown(published.name, published.epoch, code, message, published.replica))
            if code == "engine_stopped":
                with trio.CancelScope(shield=True):
                    if not await self._worker.join(_JOIN_S):
                        log.warning("engine_thread_left_behind", engine=published.title)

    def on(self, message: EngineMessage) -> None:
        match message:
            case WorkerEvents(posts, life):
                if life is self:
                    for post in posts:
                        self._on_post(post)
            case StartJob(job, epoch):
                if epoch == self._published.epoch:
                    self._start(job)
            case CancelJob(job):
                self._cancel(job)
            case DraftTokens(_, expect):
                if self._worker is not None and expect.sequence_id in self._sequences:
                    self._worker.send(expect)
            case StallAlarm():
                self._check_progress()
            case Install(adapter, reply):
                self._send(AddAdapter(adapter))
                self._published.adapters = {**self._published.adapters, adapter.name: adapter}
                reply.set(None)
            case Uninstall(name, reply):
                self._send(DropAdapter(name))
                left = {other: adapter for other, adapter in self._published.adapters.items() if other != name}
                self._published.adapters = left
                reply.set(None)

    def after_batch(self) -> None:
        """Report finished jobs to the dispatcher, once for all messages of this wake."""
        self._published.inside = len(self._sequences)
        jobs_wait = self._jobs_wait()
        if self._finished or (jobs_wait and self._output_tokens):
            finished = JobsFinished(
                self._published.name, tuple(self._finished), self._output_tokens, tuple(self._first_s)
            )
            self._finished.clear()
            self._first_s.clear()
            self._output_tokens = {}
            if jobs_wait:
                self._dispatch.put_unbounded(finished)
            else:
                # The dispatcher reads it before the next `Enqueue`.
                self._dispatch.put_deferred(finished)

    def _with_adapters(self) -> EngineSource:
        """A source that also loads the adapters. A restart skips adapters that cannot be read any more."""
        source, wanted, is_first = self._source, tuple(self._adapters()), self._published.limits is None
        if isinstance(source, EngineProgram):
            hosted = msgspec.structs.replace(source.hosted, adapters=wanted, needs_adapters=is_first)
            return msgspec.structs.replace(source, hosted=hosted)

        def load(progress: Callable[[str], None]) -> Stepping:
            engine = source(progress)
            load_adapters(engine, wanted, progress, must=is_first)
            return engine

        return load

    def _start(self, job: Job) -> None:
        assert self._worker is not None
        if not self._sequences:
            self._timers.move(self._watch, self._clock() + self._stall_s)
        running = _RunningJob(job)
        for sequence in job.sequences:
            self._sequences[sequence.sequence_id] = running
            self._worker.send(sequence)

    def _send(self, command: Command) -> None:
        assert self._worker is not None
        self._worker.send(command)

    def _cancel(self, job: Job) -> None:
        """Abort the job's sequences. KV blocks are released at the next step boundary; later outputs are dropped."""
        assert self._worker is not None
        running = [
            each.sequence_id for each in job.sequences if self._sequences.pop(each.sequence_id, None) is not None
        ]
        for sequence_id in running:
            self._worker.send(Abort(sequence_id))
        if running:
            self._finished.append(job)

    def _on_posts(self, posts: list[EnginePost]) -> None:
        """Called by the event loop: outputs are delivered without a hop through the mailbox.

        It does not await and runs between two messages, so it may write the actor's state.
        """
        try:
            for position, post in enumerate(posts):
                if not isinstance(post, StepReport):
                    self.mailbox.put_unbounded(WorkerEvents(posts[position:], self))
                    break
                self._on_step(post)
            self.after_batch()
        except Exception as error:  # noqa: BLE001  (the event loop itself would end with it)
            self.mailbox.put_unbounded(WorkerEvents([EngineFailed("engine_actor_failed", repr(error))], self))

    def _on_step(self, report: StepReport) -> None:
        self._published.stats = report.stats
        self._published.adapter_uses = report.adapters
        self._watch.due = self._clock() + self._stall_s
        for output in report.outputs:
            self._deliver(output)

    def _on_post(self, post: EnginePost) -> None:
        published = self._published
        match post:
            case StepReport():
                self._on_step(post)
            case EngineLoading(what):
                published.why = what
                self._watch.due = self._clock() + self._load_stall_s
                if self._loading.is_due(what, self._clock()):
                    log.info("engine_loading", engine=published.title, step=what)
            case EngineLoaded(limits, stats, adapters, read_adapter):
                published.limits, published.stats = limits, stats
                # The wanted adapters may have changed during loading.
                wanted = {each.name for each in self._adapters()}
                known = {adapter.name: adapter for adapter in adapters} | dict(published.adapters)
                published.adapters = {name: adapter for name, adapter in known.items() if name in wanted}
                published.read_adapter = read_adapter
                published.state, published.why, published.down_until = "ready", None, None
                log.info(
                    "engine_ready",
                    engine=published.title,
                    epoch=published.epoch,
                    kv_bytes=stats.kv_bytes,
                    kv_blocks=stats.total_blocks,
                    kv_tokens=limits.pool_tokens,
                )
                self._dispatch.put_unbounded(EngineUp(published.name, published.epoch, limits, published.replica))
            case LoadFailed(message):
                failure = f"engine '{published.title}' cannot be loaded: {message}"
                raise EngineLost("engine_load_failed", failure) if published.limits else EngineLoadFailed(failure)
            case EngineFailed(code, message):
                raise EngineLost(code, message)

    def _deliver(self, output: SequenceOutput) -> None:
        inside = self._sequences.get(output.sequence_id)
        if inside is None:
            return
        job = inside.job
        if inside.silent_since is not None:
            self._first_s.append((job.tenant, self._clock() - inside.silent_since))
            inside.silent_since = None
        made = len(output.token_ids) if isinstance(output, TokenDelta) else 0
        self._output_tokens[job.tenant] = self._output_tokens.get(job.tenant, 0) + made
        kept = job.delivery.put(job.job_id, output)
        if output.finish is not None:
            del self._sequences[output.sequence_id]
            inside.left -= 1
            if not inside.left:
                self._finished.append(job)
        elif not kept:
            self._cancel(job)

    def _alarm(self) -> None:
        self.mailbox.put_unbounded(StallAlarm())

    def _check_progress(self) -> None:
        published, loads = self._published, self._published.state == "loading"
        if not (loads or self._sequences):
            return
        if self._clock() < self._watch.due:
            self._timers.move(self._watch, self._watch.due)
            return
        assert self._worker is not None
        deadline_s = self._load_stall_s if loads else self._stall_s
        what = f"engine {published.title}"
        log.error("no_progress", what=what, deadline_s=deadline_s, doing=published.why, stacks=self._worker.stacks())
        if not loads:
            raise EngineLost("engine_stalled", f"The {what} finished no step for {deadline_s:g} s.")
        message = f"The {what} made no progress in loading for {deadline_s:g} s, after: {published.why}."
        raise EngineLost("engine_load_stalled", message) if published.limits else EngineLoadFailed(message)
