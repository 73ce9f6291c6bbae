"""Owns one engine or one replica: starts its thread, hands it work, hands its outputs out, and watches that it moves.

Health is forward progress: while there is work, a step has to be reported within `stall`. An engine that fails or
stalls ends this actor's life; its supervisor starts the next one with a new thread and a new engine.
"""

from collections.abc import Callable, Sequence

import structlog
import trio

from actors.api.engine_status import EngineStatus
from actors.api.errors import EngineLoadFailed, EngineLost
from actors.engines.adapter_registry import WantedAdapter
from actors.engines.load_progress import LoadProgress
from actors.kernel.actor import Actor
from actors.kernel.mailbox import Mailbox
from actors.kernel.timers import TimerWheel
from actors.kernel.worker_threads import (
    EngineFactory,
    EngineLoaded,
    EngineLoading,
    EnginePost,
    LoadFailed,
    WorkerHandle,
    WorkerThreads,
)
from actors.protocol.messages import (
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
    WorkerEvents,
)
from engine.core.loop import Stepping, Stop
from engine.core.messages import Abort, AddAdapter, Command, DropAdapter, EngineFailed, StepReport, TokenOutput
from engine.errors import EngineError
from engine.lora.adapters import Adapter

_JOIN_S = 5.0
log = structlog.get_logger()


class _Inside:
    """A work in the engine."""

    __slots__ = ("left", "work")

    def __init__(self, work: Job) -> None:
        self.work = work
        self.left = len(work.sequences)


class EngineActor(Actor[EngineMessage]):
    """One life of one engine, or of one replica."""

    def __init__(
        self,
        mailbox: Mailbox[EngineMessage],
        *,
        dispatch: Mailbox[QueueMessage],
        board: EngineStatus,
        factory: EngineFactory,
        links: WorkerThreads,
        wheel: TimerWheel,
        stall_s: float,
        waited_for: Callable[[], bool],
        adapters: Callable[[], Sequence[WantedAdapter]],
    ) -> None:
        """`waited_for`: something waits in the queue for room. `adapters`: what the engine is to be loaded with."""
        super().__init__(mailbox)
        self._waited_for = waited_for
        self._dispatch = dispatch
        self._board = board
        self._factory = factory
        self._adapters = adapters
        self._links = links
        self._wheel = wheel
        self._stall_s = stall_s
        self._watch = wheel.watch(float("inf"), self._alarm)
        self._link: WorkerHandle | None = None
        self._loading = LoadProgress()
        self._inside: dict[int, _Inside] = {}
        """By sequence."""
        self._freed: list[Job] = []
        self._made: dict[str, int] = {}
        """Output tokens by tenant that dispatch has not heard of."""

    async def run(self) -> None:
        """Load the engine and serve until it fails or this is cancelled."""
        board = self._board
        if board.epoch:
            board.restarts += 1
        board.epoch += 1
        board.state, board.why = "loading", None
        code, message = "engine_stopped", f"The engine {board.title} was stopped."
        self._link = self._links.engine(board.title, self._with_adapters(), self._on_posts)
        try:
            await super().run()
        except EngineLost as lost:
            code, message = lost.code, str(lost)
            raise
        except Exception as error:
            code, message = "engine_actor_failed", f"The actor of engine {board.title} failed: {error!r}"
            raise
        finally:
            board.state, board.why = "failed", message
            board.stats = None
            board.inside = 0
            board.adapters, board.adapter_uses = {}, ()
            self._wheel.cancel(self._watch)
            self._link.abandon()
            self._link.send(Stop())
            self._dispatch.put_owed(EngineDown(board.name, board.epoch, code, message, board.replica))
            if code == "engine_stopped":
                with trio.CancelScope(shield=True):
                    if not await self._link.join(_JOIN_S):
                        log.warning("engine_thread_left_behind", engine=board.title)

    def on(self, message: EngineMessage) -> None:
        """Work goes in, outputs come out."""
        match message:
            case WorkerEvents(posts):
                for post in posts:
                    self._on_post(post)
            case StartJob(work, epoch):
                if epoch == self._board.epoch:
                    self._start(work)
            case CancelJob(work):
                self._drop(work)
            case DraftTokens(_, expect):
                if self._link is not None and expect.request_id in self._inside:
                    self._link.send(expect)
            case StallAlarm():
                self._check_progress()
            case Install(adapter, reply):
                self._send(AddAdapter(adapter))
                self._board.adapters = {**self._board.adapters, adapter.name: adapter}
                reply.set(None)
            case Uninstall(name, reply):
                self._send(DropAdapter(name))
                left = {other: adapter for other, adapter in self._board.adapters.items() if other != name}
                self._board.adapters = left
                reply.set(None)

    def after_batch(self) -> None:
        """Tell dispatch what room there is now, once for all that was there."""
        self._board.inside = len(self._inside)
        waited_for = self._waited_for()
        if self._freed or (waited_for and self._made):
            freed = JobsFinished(self._board.name, tuple(self._freed), self._made)
            self._freed.clear()
            self._made = {}
            if waited_for:
                self._dispatch.put_owed(freed)
            else:
                # Dispatch reads it before it looks at the next offer.
                self._dispatch.put_quietly(freed)

    def _with_adapters(self) -> EngineFactory:
        """The engine, loaded with its adapters. A later life goes on without those that cannot be read any more."""
        factory, wanted, is_first = self._factory, tuple(self._adapters()), self._board.limits is None

        def load(progress: Callable[[str], None]) -> Stepping:
            engine = factory(progress)
            for each in wanted:
                progress(f"loading adapter {each.name}")
                try:
                    prepared = engine.read_adapter(each.path)
                except EngineError as error:
                    said = f"its adapter '{each.name}' cannot be loaded: {error.message}"
                    if is_first:
                        engine.close()
                        raise EngineError(error.code, said) from error
                    progress(said)
                else:
                    engine.accept(AddAdapter(Adapter(each.name, each.version, each.path, prepared)))
            return engine

        return load

    def _start(self, work: Job) -> None:
        assert self._link is not None
        if not self._inside:
            self._wheel.move(self._watch, trio.current_time() + self._stall_s)
        inside = _Inside(work)
        for sequence in work.sequences:
            self._inside[sequence.request_id] = inside
            self._link.send(sequence)

    def _send(self, command: Command) -> None:
        assert self._link is not None
        self._link.send(command)

    def _drop(self, work: Job) -> None:
        """The blocks are free at the next step boundary; what is still said of it is for nobody."""
        assert self._link is not None
        running = [each.request_id for each in work.sequences if self._inside.pop(each.request_id, None) is not None]
        for request_id in running:
            self._link.send(Abort(request_id))
        if running:
            self._freed.append(work)

    def _on_posts(self, posts: list[EnginePost]) -> None:
        """Called in the loop, between two tasks. Steps are handed out here and now: a hop less for every token."""
        for position, post in enumerate(posts):
            if not isinstance(post, StepReport):
                self.mailbox.put_owed(WorkerEvents(posts[position:]))
                break
            try:
                self._on_step(post)
            except Exception as error:  # noqa: BLE001  (the loop itself would die of it)
                self.mailbox.put_owed(WorkerEvents([EngineFailed("engine_actor_failed", repr(error))]))
                break
        self.after_batch()

    def _on_step(self, report: StepReport) -> None:
        self._board.stats = report.stats
        self._board.adapter_uses = report.adapters
        self._watch.due = trio.current_time() + self._stall_s
        for output in report.outputs:
            self._hand_out(output)

    def _on_post(self, post: EnginePost) -> None:
        board = self._board
        match post:
            case StepReport():
                self._on_step(post)
            case EngineLoading(what):
                board.why = what
                if self._loading.is_due(what, trio.current_time()):
                    log.info("engine_loading", engine=board.title, step=what)
            case EngineLoaded(limits, stats, adapters, read_adapter):
                board.limits, board.stats = limits, stats
                # Some may have come and gone while it was being loaded.
                wanted = {each.name for each in self._adapters()}
                known = {adapter.name: adapter for adapter in adapters} | dict(board.adapters)
                board.adapters = {name: adapter for name, adapter in known.items() if name in wanted}
                board.read_adapter = read_adapter
                board.state, board.why = "ready", None
                log.info(
                    "engine_ready",
                    engine=board.title,
                    epoch=board.epoch,
                    kv_bytes=stats.kv_bytes,
                    kv_blocks=stats.total_blocks,
                    kv_tokens=limits.pool_tokens,
                )
                self._dispatch.put_owed(EngineUp(board.name, board.epoch, limits, board.replica))
            case LoadFailed(message):
                said = f"engine '{board.title}' cannot be loaded: {message}"
                raise EngineLost("engine_load_failed", said) if board.limits else EngineLoadFailed(said)
            case EngineFailed(code, message):
                raise EngineLost(code, message)

    def _hand_out(self, output: TokenOutput) -> None:
        inside = self._inside.get(output.request_id)
        if inside is None:
            return
        work = inside.work
        self._made[work.tenant] = self._made.get(work.tenant, 0) + len(output.token_ids)
        kept = work.delivery.put(work.id, output)
        if output.finish is not None:
            del self._inside[output.request_id]
            inside.left -= 1
            if not inside.left:
                self._freed.append(work)
        elif not kept:
            self._drop(work)

    def _alarm(self) -> None:
        self.mailbox.put_owed(StallAlarm())

    def _check_progress(self) -> None:
        now = trio.current_time()
        if not self._inside:
            return
        if now < self._watch.due:
            self._wheel.move(self._watch, self._watch.due)
            return
        raise EngineLost("engine_stalled", f"The engine {self._board.title} finished no step for {self._stall_s:g} s.")
