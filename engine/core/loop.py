"""The step loop: drains commands, runs one step, posts one report. It blocks, and runs in a thread of its own."""

from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Protocol

import msgspec

from engine.core.limits import EngineLimits
from engine.core.time_slices import NoTimeSlices, TimeSlice
from engine.errors import EngineError
from engine.lora.adapters import Adapter, PreparedAdapter
from engine.messages import Command, EngineFailed, EngineStats, StepReport


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End the loop at the next step boundary; every sequence in the engine finishes as aborted."""


_QUIET_S = 0.05
"""After this idle time the loop runs `check_integrity`."""
_WATCH_S = 0.5
"""Interval of `check_runner` while idle; otherwise a lost rank would show only in the next step."""


class Stepping(Protocol):
    """What the loop drives: `Engine` (generates text) or `Embedder`."""

    name: str
    limits: EngineLimits

    @property
    def has_work(self) -> bool: ...
    @property
    def adapters(self) -> tuple[Adapter, ...]: ...
    def read_adapter(self, directory: Path) -> PreparedAdapter: ...
    def accept(self, command: Command) -> None: ...
    def step(self) -> StepReport: ...
    def stats(self) -> EngineStats: ...
    def abort_all(self) -> None: ...
    def check_integrity(self) -> None: ...
    def check_runner(self) -> None: ...
    def close(self) -> None: ...


class Inbox(Protocol):
    """Where commands come from: a `SimpleQueue`, or the pipe of a process."""

    def empty(self) -> bool: ...
    def get_nowait(self) -> Command | Stop: ...
    def get(self, *, timeout: float | None = None) -> Command | Stop: ...


Post = Callable[[StepReport | EngineFailed], None]
"""Takes reports in the loop's thread; must neither block nor raise."""


class StepLoop:
    """Drives one engine, and closes it at the end."""

    def __init__(self, engine: Stepping, inbox: Inbox, post: Post, time_slice: TimeSlice | None = None) -> None:
        """`time_slice`: limits how many engines step at the same time, where they share cores."""
        self._time_slice: TimeSlice = time_slice or NoTimeSlices()
        self._engine = engine
        self._inbox = inbox
        self._post = post
        self._unchecked = False

    def run(self) -> None:
        """Return after a `Stop` or a failure. A failure is posted as `EngineFailed`, the last report."""
        engine, time_slice = self._engine, self._time_slice
        try:
            while self._drain():
                if engine.has_work:
                    time_slice.take()
                    self._post(engine.step())
                    self._unchecked = True
                    time_slice.done(more=engine.has_work)
            engine.abort_all()
            self._post(engine.step())
        except EngineError as error:
            self._post(EngineFailed(error.code, error.message))
        except Exception as error:  # noqa: BLE001 - whatever it is, its readers must hear of it
            self._post(EngineFailed("engine_failed", f"engine {engine.name} failed: {type(error).__name__}: {error}"))
        finally:
            time_slice.leave()
            engine.close()

    def _drain(self) -> bool:
        """Execute all queued commands; wait for one if the engine has no work. False: stop."""
        inbox, engine = self._inbox, self._engine
        while not (inbox.empty() and engine.has_work):
            command = self._wait() if not engine.has_work else inbox.get()
            if isinstance(command, Stop):
                return False
            engine.accept(command)
        return True

    def _wait(self) -> Command | Stop:
        while True:
            try:
                return self._next(_QUIET_S if self._unchecked else _WATCH_S)
            except Empty:
                if self._unchecked:
                    self._engine.check_integrity()
                    self._unchecked = False
                self._engine.check_runner()

    def _next(self, timeout_s: float) -> Command | Stop:
        """Wait up to `timeout_s`. Raises `Empty`.

        The non-blocking `get_nowait` must come first. A `SimpleQueue.get` whose timeout expires before it acquires its
        internal lock waits for ever, if a failed `get` has left that lock taken (CPython 3.11 to 3.13).
        """
        try:
            return self._inbox.get_nowait()
        except Empty:
            return self._inbox.get(timeout=timeout_s)
