"""The thread or process of one engine: what it posts, and which steps of a long load are logged."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from actors.kernel.thread_bridge import WorkerHandle
from engine.core.limits import EngineLimits
from engine.core.loop import Stepping
from engine.hosting.wire import COMMAND, HostedEngine
from engine.lora.adapters import Adapter, PreparedAdapter
from engine.messages import EngineFailed, EngineStats, StepReport

EngineFactory = Callable[[Callable[[str], None]], Stepping]
"""Called in the engine's own thread with a function that takes words on its progress. Raises EngineError."""


class EngineProgram(msgspec.Struct, frozen=True):
    """What an engine's own process loads."""

    hosted: HostedEngine
    command: tuple[str, ...] = COMMAND
    """Starts the process."""


EngineSource = EngineFactory | EngineProgram
"""Of an engine in a thread of this process, or in a process of its own."""
_DIGITS = str.maketrans("", "", "0123456789")
_PAUSE_S = 1.0


class EngineLoading(msgspec.Struct, frozen=True, tag=True):
    """A step of loading has begun."""

    what: str


class EngineLoaded(msgspec.Struct, frozen=True, tag=True):
    """The engine takes commands."""

    limits: EngineLimits
    stats: EngineStats
    """Before the first step."""
    adapters: tuple[Adapter, ...] = ()
    read_adapter: Callable[[Path], PreparedAdapter] | None = None
    """See `EngineStatus`."""


class LoadFailed(msgspec.Struct, frozen=True, tag=True):
    """There is no engine; the thread has ended."""

    message: str


EnginePost = EngineLoading | EngineLoaded | LoadFailed | StepReport | EngineFailed


class EngineThreads(Protocol):
    """Starts the threads and processes of engines."""

    def engine(self, name: str, source: EngineSource, on_posts: Callable[[list[EnginePost]], None]) -> WorkerHandle:
        """A handle that takes `Command` and `Stop`; `on_posts` is called in the event loop."""
        ...


class LoadProgress:
    """The first step of each kind, and of equal ones that only count ("layer 3 of 40") one a second."""

    def __init__(self) -> None:
        self._kind = ""
        self._logged_at = float("-inf")

    def is_due(self, step: str, now: float) -> bool:
        """Whether to log `step`; `now` in seconds on any clock."""
        kind = step.translate(_DIGITS)
        if kind == self._kind and now - self._logged_at < _PAUSE_S:
            return False
        self._kind, self._logged_at = kind, now
        return True
