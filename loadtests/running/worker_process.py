"""A worker in a process of its own: its share comes over standard input, its results go to standard output.

It ends when its input does, so that it never outlives the process that started it.
"""

import contextlib
import gc
import os
import sys
from collections import deque

import trio

from loadtests.running.progress import WorkerProgress
from loadtests.running.tally import WorkerTally
from loadtests.running.worker import Worker
from loadtests.running.worker_messages import (
    BeginRun,
    StopRun,
    Unpacker,
    WorkerDone,
    WorkerReady,
    WorkerTold,
    decode_share,
    decode_to_worker,
    packed,
)

_MOST_UNSENT = 64
"""Progress reports beyond it replace the oldest: the run's process is slow, and must not slow the worker."""
_READ_BYTES = 1 << 16


class _Link:
    """Standard input and output as messages."""

    def __init__(self) -> None:
        self.input = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
        self.output = trio.lowlevel.FdStream(os.dup(sys.stdout.fileno()))
        self._unpacker = Unpacker()
        self._received: deque[bytes] = deque()

    async def receive(self) -> bytes | None:
        """The next message; None: the other side has gone."""
        while not self._received:
            data = await self.input.receive_some(_READ_BYTES)
            if not data:
                return None
            self._received.extend(self._unpacker.feed(bytes(data)))
        return self._received.popleft()


async def serve() -> None:
    """One run."""
    link = _Link()
    raw = await link.receive()
    if raw is None:
        return
    unsent: deque[WorkerProgress] = deque(maxlen=_MOST_UNSENT)
    some = trio.Event()

    def report(progress: WorkerProgress) -> None:
        unsent.append(progress)
        some.set()

    worker = Worker(decode_share(raw), report)
    await worker.open_connections()
    spare_the_collector()
    await link.output.send_all(packed(WorkerReady()))
    raw = await link.receive()
    begin = None if raw is None else decode_to_worker(raw)
    if not isinstance(begin, BeginRun):
        return
    begun_s = begin.begun_s

    async def tell() -> None:
        nonlocal some
        while True:
            await some.wait()
            some = trio.Event()
            while unsent:
                await link.output.send_all(packed(WorkerTold(unsent.popleft())))

    async def listen() -> None:
        raw = await link.receive()
        if raw is None:
            os._exit(1)  # its run is gone: there is no reader of the results
        if isinstance(decode_to_worker(raw), StopRun):
            worker.stop()
        await listen()

    tally = WorkerTally()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        nursery.start_soon(listen)
        tally = await worker.run(begun_s)
        nursery.cancel_scope.cancel()
    await link.output.send_all(packed(WorkerDone(tally)))


def spare_the_collector() -> None:
    """Collecting all objects takes longer than the bound on the lag: what is there now is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)


def main() -> None:
    """Serve one run."""
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        # Ctrl-C reaches the whole group of processes; the run's process decides, and tells its workers.
        import signal

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise_open_files()
        trio.run(serve)


def raise_open_files() -> None:
    """As many connections as the system allows."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
