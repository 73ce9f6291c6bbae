"""The loop of the load process: one epoll and one list of timers for the scripted upstream and for the clients.

Both sides share the loop, so the times of an event at the upstream and at the client are of one clock. Data that has
arrived is read before events that are due are sent, a few at a time, so that an arrival is noticed soon.
"""

import heapq
import select
import time
from collections import deque
from collections.abc import Callable

_SENDS_A_TURN = 32
_MOST_SLEEP_S = 0.05
_NEVER = float("inf")


class LoadLoop:
    """Runs handlers of descriptors, timers, and senders that are always ready."""

    def __init__(self) -> None:
        self.now = time.perf_counter()
        """When the last poll returned: the arrival time of everything that is read in this turn."""
        self.ready: deque[Callable[[], bool]] = deque()
        """Senders at full speed, which take turns: each sends one event and returns whether it has more."""
        self.lateness_s: list[float] = []
        """How late each timer ran since the last `forget_lateness`."""
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timers_made = 0

    def close(self) -> None:
        self._epoll.close()

    def watch(self, descriptor: int, handler: Callable[[int], None]) -> None:
        """Call the handler with the epoll mask when there is something to read."""
        self._handlers[descriptor] = handler
        self._epoll.register(descriptor, select.EPOLLIN)

    def watch_writing(self, descriptor: int, *, wanted: bool) -> None:
        """Also call the handler when the descriptor can be written."""
        self._epoll.modify(descriptor, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def forget(self, descriptor: int) -> None:
        """Stop watching, before the descriptor is closed."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call once at that time."""
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, call))

    def forget_lateness(self) -> None:
        self.lateness_s.clear()

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Run for some time, or until the condition holds. Returns whether it holds; without one, True."""
        clock = time.perf_counter
        end = clock() + seconds
        timers, ready, handlers = self._timers, self.ready, self._handlers
        while True:
            if until is not None and until():
                return True
            now = clock()
            if now >= end:
                return until is None
            if ready:
                wait = 0.0
            else:
                due = timers[0][0] if timers else _NEVER
                wait = max(0.0, min(due - now, end - now, _MOST_SLEEP_S))
            events = self._epoll.poll(wait)
            self.now = clock()
            for descriptor, mask in events:
                handler = handlers.get(descriptor)
                if handler is not None:
                    handler(mask)
            self._send_some(clock())

    def _send_some(self, now: float) -> None:
        timers, ready = self._timers, self.ready
        for _ in range(_SENDS_A_TURN):
            if not timers or timers[0][0] > now:
                break
            due, _, call = heapq.heappop(timers)
            self.lateness_s.append(now - due)
            call()
        for _ in range(min(len(ready), _SENDS_A_TURN)):
            send = ready.popleft()
            if send():
                ready.append(send)
