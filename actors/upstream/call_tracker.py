"""Calls of one upstream: which run, which wait for a free slot, and when a job is complete. Sans-IO.

A slot is occupied until the call's task has ended, even after cancellation, so that the upstream never sees more than
`concurrent` calls.
"""

from collections import deque

from actors.protocol.job import Job, UpstreamCall
from policies.errors import IntegrityError


class CallTracker:
    """`concurrent`: maximum number of concurrent calls."""

    def __init__(self, concurrent: int) -> None:
        self._concurrent = concurrent
        self._wanted = 0
        """Running calls whose job is still wanted."""
        self._running: dict[int, Job | None] = {}
        """By request id of the call. None: the job is gone, but the call's task has not ended yet."""
        self._waiting: deque[tuple[Job, UpstreamCall]] = deque()
        self._left: dict[int, int] = {}
        """By job id: number of unfinished calls."""

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Number of calls that wait for a slot."""
        return len(self._waiting)

    @property
    def inside(self) -> int:
        """Number of calls, running or waiting, whose job is still wanted."""
        return self._wanted + len(self._waiting)

    def figures(self) -> tuple[int, int, int]:
        """`inside`, `running` and `waiting`."""
        waiting = len(self._waiting)
        return self._wanted + waiting, len(self._running), waiting

    def job_of(self, call: int) -> Job | None:
        """The job of a running call; None: it was dropped or is complete."""
        return self._running.get(call)

    def start(self, job: Job, calls: tuple[UpstreamCall, ...]) -> None:
        """Add a job's calls; start those that `next_call` returns."""
        self._left[job.job_id] = len(calls)
        for call in calls:
            self._waiting.append((job, call))

    def next_call(self) -> tuple[Job, UpstreamCall] | None:
        """The next call that may start now; None: none may."""
        if not self._waiting or len(self._running) >= self._concurrent:
            return None
        job, call = self._waiting.popleft()
        self._running[call.sequence_id] = job
        self._wanted += 1
        return job, call

    def complete(self, call: int) -> Job | None:
        """The call's answer is complete. Returns its job if this was its last call."""
        job = self._running[call]
        if job is None:
            return None
        self._running[call] = None
        self._wanted -= 1
        self._left[job.job_id] -= 1
        if self._left[job.job_id]:
            return None
        del self._left[job.job_id]
        return job

    def drop(self, job: Job) -> list[int] | None:
        """Drop a job. Returns the running calls whose tasks must be cancelled; None: the job is not here."""
        if self._left.pop(job.job_id, None) is None:
            return None
        self._waiting = deque(pair for pair in self._waiting if pair[0] is not job)
        running = [call for call, owner in self._running.items() if owner is job]
        for call in running:
            self._running[call] = None
        self._wanted -= len(running)
        return running

    def gone(self, call: int) -> None:
        """The call's task has ended; its slot is free. Raises IntegrityError if its job still expects an answer."""
        job = self._running.pop(call)
        if job is not None:
            raise IntegrityError("a call's task has ended before its job was completed or dropped")

    def check_integrity(self) -> None:
        """Raise `IntegrityError` if slots or unfinished calls are inconsistent."""
        if len(self._running) > self._concurrent:
            raise IntegrityError("more calls than places")
        held: dict[int, int] = {}
        for job in [
            *(job for job in self._running.values() if job is not None),
            *(job for job, _ in self._waiting),
        ]:
            held[job.job_id] = held.get(job.job_id, 0) + 1
        if self._wanted + len(self._waiting) != sum(held.values()):
            raise IntegrityError("the number of wanted calls is wrong")
        if held != self._left:
            raise IntegrityError("the jobs' unfinished calls do not add up")
