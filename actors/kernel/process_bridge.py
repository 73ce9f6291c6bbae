"""A child process with commands and posts, as `thread_bridge` has for a thread: frames over two pipes.

No thread is needed: the event loop writes and reads the pipes. The child ends with this process, in whatever way that
ends (`engine/child.py`), and it is always reaped. Both ways are bounded: of commands that the child does not take,
`_BACKLOG_BYTES` wait, and beyond it the child is killed; posts that are not taken fill the pipe, and the child waits.
"""

import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog
import trio

from actors.kernel.spare_processes import Process, end_process
from engine.frames import FrameBuffer

C = TypeVar("C")
P = TypeVar("P")

_READ_BYTES = 1 << 20
_BACKLOG_BYTES = 1 << 26
_END_S = 2.0
"""How long a child that is to end may take before it is killed."""
_POLL_S = 0.005
_LOOK_S = 0.2
log = structlog.get_logger()


class ProcessBridge(Generic[C, P]):
    """A process that obeys commands of type C and posts values of type P; see `WorkerHandle`.

    `on_posts` is called in the event loop. If the process ends before it is abandoned, the last post is `lost(how)`.
    """

    def __init__(
        self,
        name: str,
        process: Process,
        first: bytes,
        *,
        encode: Callable[[C], bytes],
        decode: Callable[[bytes], P],
        lost: Callable[[str], P],
        on_posts: Callable[[list[P]], None],
    ) -> None:
        """Must be called in the event loop. `process`: from `start_process`. `first`: the first frame for it.

        `decode` takes a frame's body. `lost` takes words on how it ended: "was killed by SIGKILL".
        """
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._into, self._out_of = process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(self._into, False)
        os.set_blocking(self._out_of, False)
        self._name = name
        self._encode = encode
        self._decode = decode
        self._lost = lost
        self._on_posts: Callable[[list[P]], None] | None = on_posts
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._frames = FrameBuffer()
        self._has_unsent = trio.Event()
        self._left = trio.Event()
        """It was abandoned."""
        self._ended = trio.Event()
        self._why = ""
        """Why it was killed, if it was this side that did."""
        self._send(first)
        trio.lowlevel.spawn_system_task(self._run, name=f"process of {name}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, command: C) -> None:
        """Without effect on a process that has ended."""
        self._send(self._encode(command))

    def abandon(self) -> None:
        """Ignore later posts. It should end now, and is killed if it does not."""
        self._on_posts = None
        self._left.set()

    async def join(self, timeout_s: float) -> bool:
        """Whether the process has ended, and was reaped, within this time."""
        with trio.move_on_after(timeout_s):
            await self._ended.wait()
        return self._ended.is_set()

    def stacks(self) -> str:
        """The process writes them to standard error (`engine/hosting/process.py`), unless it is stopped."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR1)
        return f"of process {self.pid}: on standard error"

    def _send(self, data: bytes) -> None:
        if self._ended.is_set() or self._why:
            return
        if self._unsent_bytes + len(data) > _BACKLOG_BYTES:
            self._kill("took no commands")
            return
        self._unsent.append(memoryview(data))
        self._unsent_bytes += len(data)
        if len(self._unsent) == 1 and not self._flush():
            self._has_unsent.set()

    def _flush(self) -> bool:
        """Write what the pipe takes. Whether that was all."""
        unsent = self._unsent
        try:
            while unsent:
                written = os.write(self._into, unsent[0])
                self._unsent_bytes -= written
                if written == len(unsent[0]):
                    unsent.popleft()
                else:
                    unsent[0] = unsent[0][written:]
        except BlockingIOError:
            return False
        except OSError:
            # It has ended, which the reading side notices.
            unsent.clear()
            self._unsent_bytes = 0
        return True

    def _kill(self, why: str) -> None:
        self._why = self._why or why
        self._process.kill()

    async def _run(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._end_in_time)
                nursery.start_soon(self._watch_for_its_end, nursery.cancel_scope)
                await self._read()
                nursery.cancel_scope.cancel()
            self._read_now()
            how = await self._reaped()
            if self._on_posts is not None:
                self._on_posts([self._lost(how)])
        finally:
            self._close()

    async def _read(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._out_of)
            if self._read_now() == 0:
                return

    def _read_now(self) -> int | None:
        """How many bytes came; 0: no more will; None: none now."""
        try:
            data = os.read(self._out_of, _READ_BYTES)
        except BlockingIOError:
            return None
        if self._why:
            return 0
        try:
            posts = [self._decode(body) for body in self._frames.feed(data)]
        except ValueError as error:
            # msgspec's errors are of this kind, too.
            self._kill(f"sent what cannot be read ({error})")
            return 0
        if posts and self._on_posts is not None:
            self._on_posts(posts)
        return len(data)

    async def _watch_for_its_end(self, reading: trio.CancelScope) -> None:
        """A process that it has started itself may keep its pipe open after it."""
        if sys.platform == "linux":
            process = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(process)
            finally:
                os.close(process)
        else:
            while self._process.poll() is None:  # noqa: ASYNC110  (there is nothing to wait for)
                await trio.sleep(_LOOK_S)
        reading.cancel()

    async def _write(self) -> None:
        while True:
            await self._has_unsent.wait()
            while not self._flush():
                await trio.lowlevel.wait_writable(self._into)
            self._has_unsent = trio.Event()

    async def _end_in_time(self) -> None:
        await self._left.wait()
        await trio.sleep(_END_S)
        log.warning("process_killed", process=self._name, pid=self.pid, why="it did not end when it was to")
        self._kill("did not end")

    async def _reaped(self) -> str:
        """Wait for its end, which follows that of its pipe; kill it if it does not. How it ended."""
        until = trio.current_time() + _END_S
        while self._process.poll() is None:
            if trio.current_time() >= until:
                self._kill("closed its pipe and did not end")
            await trio.sleep(_POLL_S)
        code = self._process.returncode
        if self._why:
            return f"{self._why} and was killed"
        if code >= 0:
            return f"ended with exit code {code}"
        how = f"was killed by {_signal_name(-code)}"
        return f"{how} (by hand, or by the system for lack of memory)" if code == -signal.SIGKILL else how

    def _close(self) -> None:
        """Whatever ended this task, the event loop's own end included."""
        self._unsent.clear()
        end_process(self._process)
        self._ended.set()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
