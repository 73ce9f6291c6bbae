"""What one upstream has in hand: which calls run, which wait for a free place, and when a work has ended. Sans-IO.

A place is taken until the call's task is gone, cancelled or not, so that the upstream never sees more than its share.
"""

from collections import deque

from actors.protocol.job import Job, UpstreamCall
from policies.errors import IntegrityError


class CallBook:
    """`concurrent`: calls at the most."""

    def __init__(self, concurrent: int) -> None:
        self._concurrent = concurrent
        self._running: dict[int, Job | None] = {}
        """By call. None: nobody waits for it any more, but its task is still there."""
        self._waiting: deque[tuple[Job, UpstreamCall]] = deque()
        self._left: dict[int, int] = {}
        """By work: calls without an end."""

    @property
    def running(self) -> int:
        """Calls under way."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Calls of works that hold more calls than there are places."""
        return len(self._waiting)

    @property
    def inside(self) -> int:
        """Calls that somebody waits for."""
        return sum(job is not None for job in self._running.values()) + len(self._waiting)

    def job_of(self, call: int) -> Job | None:
        """Whose call it is; None: nobody waits for it."""
        return self._running.get(call)

    def start(self, job: Job, calls: tuple[UpstreamCall, ...]) -> None:
        """Take it in; ask `next_call` what may begin."""
        self._left[job.job_id] = len(calls)
        self._waiting.extend((job, call) for call in calls)

    def next_call(self) -> tuple[Job, UpstreamCall] | None:
        """A call that may begin now."""
        if not self._waiting or len(self._running) >= self._concurrent:
            return None
        job, call = self._waiting.popleft()
        self._running[call.sequence_id] = job
        return job, call

    def complete(self, call: int) -> Job | None:
        """The call's answer is whole; its work, if that was the last one."""
        job = self._running[call]
        if job is None:
            return None
        self._running[call] = None
        self._left[job.job_id] -= 1
        if self._left[job.job_id]:
            return None
        del self._left[job.job_id]
        return job

    def drop(self, job: Job) -> list[int] | None:
        """Nobody waits for it any more: the calls whose tasks have to be ended. None: it is not in here."""
        if self._left.pop(job.job_id, None) is None:
            return None
        self._waiting = deque(each for each in self._waiting if each[0] is not job)
        running = [call for call, owner in self._running.items() if owner is job]
        for call in running:
            self._running[call] = None
        return running

    def gone(self, call: int) -> None:
        """The call's task has ended: its place is free."""
        job = self._running.pop(call)
        if job is not None:
            raise IntegrityError("a call's task is gone before its work was told of an end")

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if places or works do not add up."""
        if len(self._running) > self._concurrent:
            raise IntegrityError("more calls than places")
        held: dict[int, int] = {}
        for job in [
            *(job for job in self._running.values() if job is not None),
            *(job for job, _ in self._waiting),
        ]:
            held[job.job_id] = held.get(job.job_id, 0) + 1
        if held != self._left:
            raise IntegrityError("the works' open calls do not add up")
