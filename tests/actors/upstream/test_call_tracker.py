"""Never more calls than slots; every call and every job ends exactly once."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.api.request import InferenceRequest, RequestContent, TextPrompt
from actors.protocol.delivery import Delivery
from actors.protocol.job import Job, UpstreamCall
from actors.upstream.call_tracker import CallTracker
from engine.sampling.params import SamplingParams

PLACES = 3


def job_of(number: int, count: int) -> tuple[Job, tuple[UpstreamCall, ...]]:
    calls = tuple(
        UpstreamCall(
            sequence_id=number * 100 + each, model="m", prompt=TextPrompt("x"), params=SamplingParams(max_tokens=1)
        )
        for each in range(count)
    )
    job = Job(
        job_id=number,
        engine="up",
        tenant="t",
        prompt_tokens=1,
        tokens=1,
        sequences=calls,
        delivery=Delivery(),
        asked=RequestContent(InferenceRequest(request_id="r", body=None, arrived_at=0.0)),
    )
    return job, calls


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.book = CallTracker(PLACES)
        self.jobs: dict[int, tuple[Job, set[int]]] = {}
        """Jobs that are still wanted, with their unfinished calls."""
        self.tasks: set[int] = set()
        self.next = 1

    @rule(count=st.integers(1, 5))
    def start(self, count):
        job, calls = job_of(self.next, count)
        self.next += 1
        self.book.start(job, calls)
        self.jobs[job.job_id] = (job, {call.sequence_id for call in calls})
        self.attempt_factory()

    def attempt_factory(self):
        while (begins := self.book.next_call()) is not None:
            job, call = begins
            assert call.sequence_id in self.jobs[job.job_id][1]
            assert call.sequence_id not in self.tasks
            self.tasks.add(call.sequence_id)

    @precondition(lambda self: self.tasks)
    @rule(pick=st.randoms(use_true_random=False))
    def complete(self, pick):
        call = pick.choice(sorted(self.tasks))
        owner = self.book.job_of(call)
        ended = self.book.complete(call)
        if owner is None:
            assert ended is None
            return
        job, left = self.jobs[owner.job_id]
        left.remove(call)
        assert ended is (job if not left else None)
        if not left:
            del self.jobs[job.job_id]

    @precondition(lambda self: self.jobs)
    @rule(pick=st.randoms(use_true_random=False))
    def drop(self, pick):
        number = pick.choice(sorted(self.jobs))
        job, left = self.jobs.pop(number)
        assert set(self.book.drop(job) or ()) == left & self.tasks
        assert self.book.drop(job) is None
        self.attempt_factory()

    @precondition(lambda self: self.tasks)
    @rule(pick=st.randoms(use_true_random=False))
    def gone(self, pick):
        idle = [call for call in sorted(self.tasks) if self.book.job_of(call) is None]
        if idle:
            call = pick.choice(idle)
            self.book.gone(call)
            self.tasks.remove(call)
            self.attempt_factory()

    @invariant()
    def adds_up(self):
        self.book.check_integrity()
        assert self.book.running == len(self.tasks) <= PLACES
        open_calls = sum(len(left) for _, left in self.jobs.values())
        assert self.book.inside == open_calls
        # No call waits while a slot is free.
        assert not self.book.waiting or len(self.tasks) == PLACES


TestBook = Machine.TestCase
TestBook.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
