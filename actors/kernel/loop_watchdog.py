"""Ends the process if the event loop makes no progress: nothing else can tell then, not even a health probe.

The loop tells a thread of its own, at intervals, that it runs. A machine that was suspended, or a process that was
stopped for a while, is no hung loop: the thread must have looked `_LOOKS` times in vain, and it stands still with it.
A library that computes for ever without releasing the interpreter's lock stops this thread, too: then only a probe from
outside helps.
"""

import faulthandler
import os
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue

import msgspec
import trio

from actors.kernel.errors import EXIT_STALLED
from actors.kernel.thread_bridge import ThreadBridge

_LOOKS = 10
_STDERR = 2


def end_hung_process(deadline_s: float) -> None:
    """Write the stacks of all threads to standard error and end, without a lock that the hung loop may hold."""
    line = {"event": "no_progress", "level": "critical", "what": "event loop", "deadline_s": deadline_s}
    os.write(_STDERR, msgspec.json.encode(line) + b"\n")
    faulthandler.dump_traceback(_STDERR, all_threads=True)
    os._exit(EXIT_STALLED)


class LoopWatchdog:
    """`run` it beside everything else."""

    def __init__(self, deadline_s: float, on_hung: Callable[[float], None] = end_hung_process) -> None:
        """`on_hung` is called in the thread, once, when the loop did nothing for `deadline_s`; 0: it is off."""
        self._deadline_s = deadline_s
        self._on_hung = on_hung

    async def run(self) -> None:
        """Return at once if it is off."""
        if not self._deadline_s:
            return
        pause_s = self._deadline_s / _LOOKS
        watch = partial(_watch, pause_s, partial(self._on_hung, self._deadline_s))
        bridge: ThreadBridge[bool, None] = ThreadBridge("watchdog", watch, lambda _: None)
        try:
            while True:
                bridge.send(True)
                await trio.sleep(pause_s)
        finally:
            bridge.send(False)


def _watch(pause_s: float, hung: Callable[[], None], inbox: "SimpleQueue[bool]", _: Callable[[None], None]) -> None:
    """In the thread. The inbox has True at intervals, and False at the end."""
    missed = 0
    while missed < _LOOKS:
        try:
            runs = _next(inbox, pause_s)
        except Empty:
            missed += 1
        else:
            missed = 0
            if not runs:
                return
    hung()


def _next(inbox: "SimpleQueue[bool]", timeout_s: float) -> bool:
    """Raises `Empty`. See `StepLoop._next` for why the queue is asked twice."""
    try:
        return inbox.get_nowait()
    except Empty:
        return inbox.get(timeout=timeout_s)
