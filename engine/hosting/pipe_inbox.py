"""The step loop's inbox in a process of its own: it reads the pipe when the loop looks, so that no thread is needed."""

import os
import select
from collections import deque
from collections.abc import Callable
from queue import Empty

from engine.core.loop import Stop
from engine.frames import FrameBuffer
from engine.messages import Command

_READ_BYTES = 1 << 20


class PipeInbox:
    """What `StepLoop` uses of a `SimpleQueue`. When the pipe is closed it holds a `Stop`, for ever."""

    def __init__(self, pipe: int, decode: Callable[[bytes], Command | Stop | None]) -> None:
        """`pipe`: a descriptor that nothing else reads any more. `decode`: None for what it has carried out itself."""
        os.set_blocking(pipe, False)
        self._pipe = pipe
        self._decode = decode
        self._frames = FrameBuffer()
        self._commands: deque[Command | Stop] = deque()
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)

    def empty(self) -> bool:
        if not self._commands:
            self._read()
        return not self._commands

    def get_nowait(self) -> Command | Stop:
        """Raises `Empty`."""
        return self.get(timeout=0.0)

    def get(self, timeout: float | None = None) -> Command | Stop:
        """The next command; `timeout` in seconds, None: wait as long as it takes. Raises `Empty`."""
        while self.empty():
            # A part of a frame wakes it, too, and then the time begins anew: its rest is on the way.
            if not self._poll.poll(None if timeout is None else 1000 * timeout):
                raise Empty
        return self._commands.popleft()

    def _read(self) -> None:
        try:
            data = os.read(self._pipe, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._commands.append(Stop())
            return
        decoded = map(self._decode, self._frames.feed(data))
        self._commands += [command for command in decoded if command is not None]
