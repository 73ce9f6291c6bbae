"""Waits for a time to a fraction of a millisecond: the event loop's own timers are up to a millisecond late.

A timerfd (timerfd_create(2)) makes a descriptor readable at its time. Without one, the event loop's timers have to do.
"""

import contextlib
import ctypes
import os
import struct
import sys
import time

import trio

_MONOTONIC = 1
_NONBLOCK_CLOEXEC = 0o2000000 | 0o4000
_ABSOLUTE = 1
_itimerspec = struct.Struct("qqqq")
_SHORTEST_S = 0.0002


class ExactTimer:
    """For one task. `close` it at the end."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._settime = None
        if sys.platform == "linux":
            with contextlib.suppress(OSError, AttributeError):
                libc = ctypes.CDLL(None, use_errno=True)
                self._descriptor = libc.timerfd_create(_MONOTONIC, _NONBLOCK_CLOEXEC)
                self._settime = libc.timerfd_settime

    async def wait_until(self, when: float) -> None:
        """Until this time of `time.perf_counter`, which is the clock of timerfd, too. Other tasks run in any case."""
        left = when - time.perf_counter()
        if self._settime is None or self._descriptor < 0 or left < _SHORTEST_S:
            await trio.sleep(max(left, 0.0))
            return
        seconds, nanoseconds = divmod(round(when * 1e9), 1_000_000_000)
        self._settime(self._descriptor, _ABSOLUTE, _itimerspec.pack(0, 0, seconds, nanoseconds), None)
        await trio.lowlevel.wait_readable(self._descriptor)
        with contextlib.suppress(BlockingIOError):
            os.read(self._descriptor, 8)

    def close(self) -> None:
        """Release the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
