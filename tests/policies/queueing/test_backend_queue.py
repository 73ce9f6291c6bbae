"""The way into a backend: nothing is lost, order and capacity are kept, and replicas come and go."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from config.model.table import Seconds
from config.model.tenancy import QueueLimits, TenantSettings, TierSettings
from policies.queueing.backend_queue import BackendJob, BackendQueue, CancelOn, Fail, Reject, StartOn
from policies.queueing.fair_queue import FairQueue
from policies.queueing.placement import EngineCapacity, PrefixMark
from policies.queueing.quarantine import Quarantine

E = TypeVar("E")
BLOCK = 16
TIERS = {"default": TierSettings(queue=QueueLimits(wait=Seconds(10), requests=6))}
TENANTS = {"a": TenantSettings(), "b": TenantSettings()}


@dataclass
class Figures:
    waiting: int = 0
    free_blocks: int = 1000
    best_effort_waiting: int = 0
    best_effort_blocks: int = 0
    steps_total: int = 0
    step_tokens: int = 0
    step_s: float = 0.0
    outstanding_tokens: int = 0
    total_blocks: int = 1000


class Job(BackendJob, frozen=True, kw_only=True):
    prompts: tuple[int, ...] = (10,)
    beginning: bytes = b""
    content: bytes = b""

    @property
    def sequence_count(self) -> int:
        return len(self.prompts)

    @property
    def prompt_lengths(self) -> Sequence[int]:
        return self.prompts

    def prefix_marks(self, block_size: int) -> tuple[PrefixMark, ...]:
        return (PrefixMark(self.beginning, block_size),) if self.beginning else ()


def job(number: int, tenant: str = "a", *, prompts: tuple[int, ...] = (10,), **more: object) -> Job:
    made = Job(job_id=number, tenant=tenant, prompt_tokens=sum(prompts), tokens=sum(prompts) + 10, prompts=prompts)
    return msgspec.structs.replace(made, **more)


def taken(pending: deque[E]) -> Iterator[E]:
    while pending:
        yield pending.popleft()


def backend(
    *,
    replicas: int = 1,
    places: int = 2,
    prefix_block: int | None = None,
    up: bool = True,
    quarantine: Quarantine | None = None,
):
    capacities = [EngineCapacity(places, BLOCK, ahead=0) for _ in range(replicas)]
    queue: BackendQueue[Job] = BackendQueue("small", FairQueue(TIERS, TENANTS), capacities, prefix_block, quarantine)
    for replica in range(replicas if up else 0):
        queue.replica_up(replica, 1)
    return queue


IDLE = [Figures()]


def test_a_job_starts_at_once_or_at_the_next_look() -> None:
    queue = backend(places=1)
    queue.offer(job(1), 0.0, IDLE)
    assert list(taken(queue.effects)) == [StartOn(job(1), 0, 1)]
    assert (len(queue), queue.in_hand, queue.replica_of(1)) == (0, 1, 0)
    for number in (2, 3, 4):
        queue.offer(job(number), 0.0, IDLE)
    queue.advance(0.0, IDLE)
    waiting = len(queue)
    assert waiting > 0
    assert not queue.changed
    list(taken(queue.effects))
    queue.finished([1])
    queue.offer(job(5), 0.0, IDLE)
    # The place is of the one that came first.
    assert [effect.job.job_id for effect in taken(queue.effects)] == [5 - waiting]


def test_effects_stay_until_they_are_taken_and_are_given_out_once() -> None:
    queue = backend()
    for number in (1, 2):
        queue.offer(job(number), 0.0, IDLE)
    queue.advance(0.0, IDLE)
    assert queue.effects.popleft().job.job_id == 1
    # Whoever carries them out failed here; its next life goes on.
    assert [effect.job.job_id for effect in taken(queue.effects)] == [2]
    assert list(taken(queue.effects)) == []


def test_more_than_the_backend_holds_waits_and_follows() -> None:
    queue = backend(places=2)
    for number in (1, 2, 3):
        queue.offer(job(number), 0.0, IDLE)
    queue.advance(0.0, IDLE)
    assert [effect.job.job_id for effect in taken(queue.effects)] == [1, 2]
    queue.finished((1,))
    assert queue.changed
    queue.advance(1.0, IDLE)
    assert [effect.job.job_id for effect in taken(queue.effects)] == [3]


def test_jobs_offered_together_are_not_refused_while_the_backend_has_capacity() -> None:
    queue = backend(places=8)
    for number in range(8):
        queue.offer(job(number), 0.0, IDLE)
    assert all(isinstance(effect, StartOn) for effect in taken(queue.effects))
    queue = backend(places=1)
    for number in range(8):
        queue.offer(job(number), 0.0, IDLE)
    effects = list(taken(queue.effects))
    assert [type(effect) for effect in effects] == [StartOn, Reject]
    assert (effects[1].job.job_id, effects[1].reason) == (7, "queue_full")  # one runs, six wait


def test_one_that_waits_too_long_is_rejected_once() -> None:
    queue = backend(places=1)
    for number in (1, 2):
        queue.offer(job(number), 0.0, IDLE)
    queue.advance(0.0, IDLE)
    assert len(list(taken(queue.effects))) == 1
    assert queue.next_expiry() == 10.0
    queue.advance(10.0, IDLE)
    assert [(effect.job.job_id, effect.reason) for effect in taken(queue.effects)] == [(2, "queue_timeout")]
    queue.advance(20.0, IDLE)
    assert list(taken(queue.effects)) == []


def test_one_without_a_queue_of_its_tenant_is_rejected() -> None:
    queue = backend()
    queue.offer(job(1, "gone"), 0.0, IDLE)
    (effect,) = taken(queue.effects)
    assert (effect.reason, effect.retry_after_s) == ("line_gone", 1.0)


def test_nothing_waits_for_a_backend_that_is_down() -> None:
    queue = backend(up=False)
    queue.offer(job(1), 0.0, [None])
    (effect,) = taken(queue.effects)
    assert (effect.reason, effect.message) == ("engine_loading", "The engine small is being loaded.")
    queue.replica_up(0, 1)
    for number in (2, 3, 4):
        queue.offer(job(number), 0.0, [None])
    queue.advance(0.0, IDLE)
    list(taken(queue.effects))
    queue.replica_down(0, "engine_failed", "It fell over.", 1.0)
    told = [(type(effect), effect.job.job_id) for effect in taken(queue.effects)]
    assert told == [(Fail, 2), (Fail, 3), (Reject, 4)]
    queue.offer(job(5), 2.0, [None])
    (effect,) = taken(queue.effects)
    assert effect.reason == "engine_down"
    # What its last life had is over: it is not counted twice.
    queue.finished((2, 3))
    queue.check_integrity()


def test_one_replica_that_goes_down_leaves_the_others_and_what_waits() -> None:
    queue = backend(replicas=2, places=1)
    figures = [Figures(), Figures()]
    for number in (1, 2, 3):
        queue.offer(job(number), 0.0, figures)
    queue.advance(0.0, figures)
    assert [(effect.job.job_id, effect.replica) for effect in taken(queue.effects)] == [(1, 0), (2, 1)]
    queue.replica_down(0, "engine_failed", "It fell over.", 1.0)
    assert list(taken(queue.effects)) == [
        Fail(job(1), "engine_failed", "It fell over.", rung_is_up=True, restarts=True)
    ]
    queue.advance(1.0, figures)
    assert list(taken(queue.effects)) == []
    queue.replica_up(0, 7)
    queue.advance(2.0, figures)
    assert list(taken(queue.effects)) == [StartOn(job(3), 0, 7)]


WAITS = {"waits_for_restart": True}


def test_what_waits_for_a_restart_starts_after_it() -> None:
    queue = backend(places=1)
    queue.offer(job(1), 0.0, IDLE)
    queue.advance(0.0, IDLE)
    queue.offer(job(2), 0.0, IDLE)
    queue.offer(job(3, **WAITS), 0.0, IDLE)
    queue.replica_down(0, "engine_failed", "It fell over.", 1.0)
    queue.offer(job(4), 1.0, IDLE)
    queue.offer(job(5, **WAITS), 1.0, IDLE)
    assert [(type(effect).__name__, effect.job.job_id) for effect in taken(queue.effects)] == [
        ("StartOn", 1),
        ("Fail", 1),
        ("Reject", 2),
        ("Reject", 4),
    ]
    queue.check_integrity()
    queue.replica_up(0, 2)
    queue.advance(2.0, IDLE)
    assert list(taken(queue.effects)) == [StartOn(job(3, **WAITS), 0, 2)]


@pytest.mark.parametrize("ended", ["before it was up", "stopped", "marked down"])
def test_nothing_waits_for_a_restart_that_does_not_come(ended) -> None:
    queue = backend(up=ended != "before it was up")
    if ended != "before it was up":
        queue.replica_down(0, "engine_failed", "It fell over.", 1.0, crashed=ended != "stopped")
    if ended == "marked down":
        queue.offer(job(1, **WAITS), 1.0, IDLE)
        assert list(taken(queue.effects)) == []
        queue.marked_down(1.0)
    else:
        queue.offer(job(1, **WAITS), 1.0, IDLE)
    (rejected,) = taken(queue.effects)
    assert (rejected.job.job_id, rejected.restarts, len(queue)) == (1, False, 0)
    queue.offer(job(2, **WAITS), 1.0, IDLE)
    assert [effect.job.job_id for effect in taken(queue.effects)] == [2]


def test_a_withdrawn_job_leaves_the_queue_or_is_cancelled_where_it_runs() -> None:
    queue = backend(places=1)
    for number in (1, 2):
        queue.offer(job(number), 0.0, IDLE)
    queue.advance(0.0, IDLE)
    list(taken(queue.effects))
    queue.withdraw(2)
    queue.withdraw(99)
    assert (list(taken(queue.effects)), len(queue)) == ([], 0)
    queue.withdraw(1)
    assert list(taken(queue.effects)) == [CancelOn(job(1), 0)]
    assert queue.in_hand == 1, "until its replica says that it has ended"
    queue.finished((1,))
    assert queue.in_hand == 0


def test_a_replica_that_knows_the_prompt_is_preferred() -> None:
    queue = backend(replicas=2, places=8, prefix_block=BLOCK)
    figures = [Figures(), Figures()]
    known = {"prompts": (40,), "beginning": b"a"}
    for number, more in ((1, {}), (2, known), (3, {})):
        queue.offer(job(number, **more), 0.0, figures)
        queue.advance(0.0, figures)
    assert [effect.replica for effect in taken(queue.effects)] == [0, 1, 0]
    queue.finished((1, 2, 3))
    queue.offer(job(4, **known), 0.0, figures)
    queue.advance(0.0, figures)
    assert [effect.replica for effect in taken(queue.effects)] == [1]


def test_output_tokens_change_whose_turn_it_is() -> None:
    queue = backend(places=1)
    for number, tenant in ((1, "a"), (2, "a"), (3, "b")):
        queue.offer(job(number, tenant), 0.0, IDLE)
    queue.advance(0.0, IDLE)
    queue.charge({"b": 100, "nobody": 3})
    queue.finished((1,))
    queue.advance(0.0, IDLE)
    assert [effect.job.job_id for effect in taken(queue.effects)] == [1, 2]


@pytest.mark.parametrize(("blocks", "settled"), [(5, False), (50, True)])
def test_steps_alone_let_nothing_start_where_every_replica_lacks_blocks(blocks: int, settled: bool) -> None:
    queue = backend(replicas=2, places=8)
    tight = [Figures(free_blocks=20), Figures(free_blocks=20)]
    for number in (1, 2):
        queue.offer(job(number), 0.0, tight)
        queue.advance(0.0, tight)
    later = [Figures(free_blocks=20, steps_total=9), Figures(free_blocks=20, steps_total=9)]
    assert queue.is_settled(1, blocks, later) is settled


def started(queue: BackendQueue[Job]) -> list[int]:
    return [effect.job.job_id for effect in taken(queue.effects) if isinstance(effect, StartOn)]


def crashed() -> tuple[BackendQueue[Job], Quarantine]:
    """A queue whose replica 0 crashed while it had the contents x and y, and is up again."""
    quarantine = Quarantine()
    queue = backend(places=8, quarantine=quarantine)
    for number, content in ((1, b"x"), (2, b"y")):
        queue.offer(job(number, content=content), 0.0, IDLE)
    queue.advance(0.0, IDLE)
    assert queue.replica_down(0, "engine_failed", "It fell over.", 1.0) == []
    assert [(effect.job.job_id, effect.fatal) for effect in taken(queue.effects) if isinstance(effect, Fail)] == [
        (1, False),
        (2, False),
    ]
    queue.replica_up(0, 2)
    return queue, quarantine


def offer_all(queue: BackendQueue[Job], now: float, **contents: bytes) -> list[int]:
    for number, content in contents.items():
        queue.offer(job(int(number[1:]), content=content), now, IDLE)
    queue.advance(now, IDLE)
    return started(queue)


def test_what_was_running_at_a_crash_runs_alone_one_after_the_other() -> None:
    queue, quarantine = crashed()
    assert offer_all(queue, 2.0, j3=b"x", j4=b"y", j5=b"z", j6=b"z") == [3]
    queue.finished((3,))
    queue.advance(3.0, IDLE)
    assert started(queue) == [4]
    queue.finished((4,))
    queue.advance(4.0, IDLE)
    assert started(queue) == [5, 6]  # neither was there
    assert not quarantine
    assert offer_all(queue, 5.0, j7=b"x", j8=b"y") == [7, 8]  # both have shown that they crash nothing
    queue.check_integrity()


def test_it_waits_until_those_that_run_have_ended() -> None:
    queue, _ = crashed()
    assert offer_all(queue, 2.0, j3=b"z") == [3]
    assert offer_all(queue, 2.0, j4=b"x") == []
    queue.finished((3,))
    queue.advance(3.0, IDLE)
    assert started(queue) == [4]


def test_nothing_waits_for_it_for_longer_than_the_settings_say() -> None:
    queue, _ = crashed()
    assert offer_all(queue, 2.0, j3=b"x", j4=b"z") == [3]
    queue.advance(11.9, IDLE)
    assert started(queue) == []
    assert offer_all(queue, 12.0, j5=b"z") == [5]
    queue.check_integrity()


def test_the_one_that_crashes_alone_is_quarantined_wherever_it_waits() -> None:
    queue, quarantine = crashed()
    assert offer_all(queue, 2.0, j3=b"x", j4=b"y", j5=b"x") == [3]
    assert [each.job_id for each in queue.replica_down(0, "engine_failed", "Again.", 3.0)] == [3]
    (failed, *rejected) = taken(queue.effects)
    assert (failed.code, failed.fatal, failed.message) == ("request_quarantined", True, quarantine.message)
    assert {effect.reason for effect in rejected} == {"engine_down"}
    queue.replica_up(0, 3)
    queue.offer(job(6, content=b"x"), 4.0, IDLE)
    (refused,) = taken(queue.effects)
    assert (refused.reason, refused.fatal) == ("request_quarantined", True)
    assert offer_all(queue, 4.0, j7=b"y", j8=b"z") == [7]  # y is a suspect, and z was never one
    assert quarantine.statistics(4.0).quarantined == 1


def test_one_that_waits_while_it_is_quarantined_elsewhere_is_refused_in_its_turn() -> None:
    queue, quarantine = crashed()
    assert offer_all(queue, 2.0, j3=b"y", j4=b"x", j5=b"z") == [3]
    quarantine.crashed([b"x"], 2.5)
    queue.finished((3,))
    queue.advance(3.0, IDLE)
    told = [(type(effect), effect.job.job_id) for effect in taken(queue.effects)]
    assert told == [(Reject, 4), (StartOn, 5)]


def test_with_another_replica_only_one_of_them_is_kept_free() -> None:
    quarantine = Quarantine()
    quarantine.crashed([b"x"], 0.0)
    queue = backend(replicas=2, quarantine=quarantine)
    both = [Figures(), Figures()]
    for number, content in ((3, b"x"), (4, b"z"), (5, b"z")):
        queue.offer(job(number, content=content), 2.0, both)
    queue.advance(2.0, both)
    where = {effect.job.job_id: effect.replica for effect in taken(queue.effects) if isinstance(effect, StartOn)}
    assert where[4] == where[5] != where[3]


def test_a_suspect_is_tried_on_another_replica_if_one_is_up() -> None:
    quarantine = Quarantine()
    queue = backend(replicas=2, quarantine=quarantine)
    both = [Figures(), Figures()]

    def replica_of(number: int) -> list[int]:
        queue.offer(job(number, content=b"x"), 2.0, both)
        queue.advance(2.0, both)
        return [effect.replica for effect in taken(queue.effects) if isinstance(effect, StartOn)]

    quarantine.crashed([b"x"], 0.0, ("large", 1))
    assert replica_of(1) == [0]
    queue.finished((1,))
    quarantine.crashed([b"x"], 0.0, ("small", 1))
    assert replica_of(2) == [0]
    queue.finished((2,))
    quarantine.crashed([b"x"], 0.0, ("small", 0))
    assert replica_of(3) == [1]
    queue.finished((3,))
    quarantine.crashed([b"x"], 0.0, ("small", 0))
    queue.replica_down(1, "engine_failed", "Down.", 2.0)
    assert replica_of(4) == [0]


@pytest.mark.parametrize(("withdrawn", "suspect"), [(False, False), (True, True)])
def test_one_that_was_withdrawn_has_shown_nothing(withdrawn: bool, suspect: bool) -> None:
    queue, quarantine = crashed()
    assert offer_all(queue, 2.0, j3=b"x") == [3]
    if withdrawn:
        queue.withdraw(3)
    queue.finished((3,))
    assert quarantine.is_suspect(b"x", 2.0) is suspect


def test_a_stop_is_no_crash_and_an_upstream_has_none() -> None:
    quarantine = Quarantine()
    for queue, crash in ((backend(quarantine=quarantine), False), (backend(), True)):
        queue.offer(job(1, content=b"x"), 0.0, IDLE)
        queue.advance(0.0, IDLE)
        assert queue.replica_down(0, "engine_stopped", "Stopped.", 1.0, crashed=crash) == []
    assert not quarantine


class BackendQueueMachine(RuleBasedStateMachine):
    """Against a model that knows where each job is."""

    PLACES = 3
    REPLICAS = 3

    @initialize()
    def make(self) -> None:
        capacities = [EngineCapacity(self.PLACES, BLOCK, ahead=1) for _ in range(self.REPLICAS)]
        self.queue: BackendQueue[Job] = BackendQueue("small", FairQueue(TIERS, TENANTS), capacities, BLOCK)
        self.figures = [Figures() for _ in range(self.REPLICAS)]
        self.now = 0.0
        self.number = 0
        self.epochs: dict[int, int] = {}
        self.waiting: dict[int, tuple[Job, float]] = {}
        self.started: dict[int, tuple[Job, int]] = {}
        self.cancelled: set[int] = set()

    def obey(self, offered: int = 0) -> None:
        """`offered`: the job that came last; those before it had their turn before it was in the queue."""
        for effect in taken(self.queue.effects):
            number = int(effect.job.job_id)
            match effect:
                case StartOn(done, replica, epoch):
                    _, expires_at = self.waiting.pop(number)
                    assert expires_at > self.now
                    assert self.epochs[replica] == epoch
                    others = [each.sequence_count for each, where in self.started.values() if where == replica]
                    assert not others or sum(others) + done.sequence_count <= self.PLACES + 1
                    rivals = [each for each, at in self.waiting.values() if at > self.now]
                    same = [
                        (r.deadline, int(r.job_id)) for r in rivals if r.tenant == done.tenant and r.job_id != offered
                    ]
                    assert all((done.deadline, number) <= other for other in same)
                    self.started[number] = done, replica
                case CancelOn(_, replica):
                    assert self.started[number][1] == replica
                    self.cancelled.add(number)
                case Reject(reason=reason):
                    _, expires_at = self.waiting.pop(number)
                    assert (reason == "queue_timeout") == (expires_at <= self.now)
                    if reason != "queue_timeout":
                        # What has expired is told so, whether or not the backend is up.
                        assert (reason in {"engine_loading", "engine_down"}) == (not self.epochs)
                case Fail(rung_is_up=rung_is_up):
                    _, replica = self.started.pop(number)
                    self.cancelled.discard(number)
                    assert replica not in self.epochs
                    assert rung_is_up == bool(self.epochs)

    @rule(seconds=st.sampled_from([0.0, 0.5, 4.0]), steps=st.integers(0, 3))
    def wait(self, seconds: float, steps: int) -> None:
        self.now += seconds
        for each in self.figures:
            each.steps_total += steps

    @rule(
        tenant=st.sampled_from(sorted(TENANTS)),
        prompts=st.sampled_from([(5,), (40,), (5, 5), (30, 30, 30), (5,) * 6]),
        due=st.sampled_from([1.0, 5.0, math.inf]),
        beginning=st.sampled_from([b"", b"x", b"y"]),
    )
    def offer(self, tenant: str, prompts: tuple[int, ...], due: float, beginning: bytes) -> None:
        self.number += 1
        deadline = self.now + due
        offered = job(self.number, tenant, prompts=prompts, deadline=deadline, beginning=beginning)
        self.waiting[self.number] = offered, min(deadline, self.now + 10)
        self.queue.offer(offered, self.now, self.figures)
        self.obey(self.number)

    @rule()
    def advance(self) -> None:
        self.queue.advance(self.now, self.figures)
        self.obey()
        assert not self.queue.changed
        assert all(at > self.now for _, at in self.waiting.values())
        busy = {where for _, where in self.started.values()}
        assert not self.waiting or busy == set(self.epochs), "an empty replica takes anything"

    @precondition(lambda self: self.started)
    @rule(data=st.data(), tokens=st.integers(0, 30))
    def finish(self, data: st.DataObject, tokens: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.started)))
        ended, _ = self.started.pop(number)
        self.cancelled.discard(number)
        self.queue.finished((number,))
        self.queue.charge({ended.tenant: tokens})

    @precondition(lambda self: self.waiting or self.started)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted({*self.waiting, *self.started})))
        before = len(self.queue)
        self.queue.withdraw(number)
        if len(self.queue) < before:
            del self.waiting[number]
        else:
            # It has begun, or expired: then the next look tells it.
            assert number in self.started or self.waiting[number][1] <= self.now
        self.obey()
        assert number not in self.started or number in self.cancelled

    @rule(replica=st.integers(0, REPLICAS - 1), blocks=st.sampled_from([0, 4, 1000]))
    def use_blocks(self, replica: int, blocks: int) -> None:
        self.figures[replica].free_blocks = blocks

    @rule(replica=st.integers(0, REPLICAS - 1))
    def come_and_go(self, replica: int) -> None:
        if replica in self.epochs:
            del self.epochs[replica]
            self.queue.replica_down(replica, "engine_failed", "It fell over.", self.now)
            assert self.epochs or not len(self.queue)
        else:
            self.number += 1
            self.epochs[replica] = self.number
            self.queue.replica_up(replica, self.number)
        self.obey()

    @invariant()
    def adds_up(self) -> None:
        self.queue.check_integrity()
        assert self.queue.in_hand == len(self.started)
        # Those that have expired are told of at the next look.
        expired = [number for number, (_, at) in self.waiting.items() if at <= self.now]
        assert len(self.waiting) - len(expired) <= len(self.queue) <= len(self.waiting)
        for number, (_, replica) in self.started.items():
            assert self.queue.replica_of(number) == replica

    def teardown(self) -> None:
        self.epochs.setdefault(0, 10**6)
        self.queue.replica_up(0, self.epochs[0])
        for _ in range(2 * self.number + 2):
            self.queue.advance(self.now, self.figures)
            self.obey()
            self.queue.finished(list(self.started))
            self.started.clear()
        assert self.waiting == {}
        assert (len(self.queue), self.queue.in_hand) == (0, 0)
        self.queue.check_integrity()


TestBackendQueueMachine = BackendQueueMachine.TestCase
TestBackendQueueMachine.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)


def slow(number: int, steps: int) -> list[Figures]:
    """As if replica `number` of three took ten times as long."""
    return [Figures(steps_total=steps, step_tokens=8, step_s=0.1 if each == number else 0.01) for each in range(3)]


def test_a_replica_that_is_too_slow_gets_nothing_for_a_while() -> None:
    queue = backend(replicas=3, places=4)
    for steps in range(1, 9):
        queue.advance(0.0, slow(1, steps))
    assert list(taken(queue.ejections)) == [(1, 5.0)]
    assert (list(taken(queue.ejections)), queue.ejected_total) == ([], [0, 1, 0])

    def started(first: int, now: float, figures: list[Figures | None]) -> set[int]:
        for number in range(first, first + 6):
            queue.offer(job(number), now, figures)
        queue.advance(now, figures)
        found = {effect.replica for effect in taken(queue.effects)}
        queue.finished(range(first, first + 6))
        return found

    figures = slow(1, 8)
    assert started(10, 1.0, figures) == {0, 2}
    # Rather that one than none.
    for replica in (0, 2):
        queue.replica_down(replica, "engine_down", "gone", 2.0)
    assert started(20, 2.0, [None, figures[1], None]) == {1}
    for replica in (0, 2):
        queue.replica_up(replica, 2)
    assert started(30, 3.0, [None, figures[1], None]) == {0, 2}
    assert started(40, 6.0, [None, figures[1], None]) == {0, 1, 2}


def with_best_effort(places: int = 2) -> BackendQueue[Job]:
    tiers = {"(batch)": TierSettings(priority=-9, queue=QueueLimits(wait=Seconds(100), requests=50))}
    tenants = {"a in (batch)": TenantSettings(tier="(batch)"), "b in (batch)": TenantSettings(tier="(batch)")}
    capacities = [EngineCapacity(places, BLOCK, ahead=0)]
    queue: BackendQueue[Job] = BackendQueue(
        "small", FairQueue(TIERS, TENANTS), capacities, best_effort=FairQueue(tiers, tenants)
    )
    queue.replica_up(0, 1)
    return queue


def offered(queue: BackendQueue[Job], *numbers: int, tenant: str = "a in (batch)", now: float = 0.0) -> list[int | str]:
    """Those that started meanwhile."""
    for number in numbers:
        queue.offer(job(number, tenant, best_effort="batch" in tenant), now, IDLE)
    queue.advance(now, IDLE)
    queue.check_integrity()
    return [effect.job.job_id for effect in taken(queue.effects) if isinstance(effect, StartOn)]


def test_best_effort_jobs_wait_apart_and_start_while_no_other_waits() -> None:
    queue = with_best_effort(places=2)
    assert offered(queue, 1, 2, 3, 4) == [1, 2]
    assert (len(queue), queue.anything_waits) == (0, True)
    # Their places are as good as free, for as many as the engine has.
    assert offered(queue, 11, 12, 13, tenant="a") == [11, 12]
    assert len(queue) == 1
    queue.finished([1, 2])
    assert offered(queue) == []
    queue.finished([11])
    assert offered(queue) == [13]
    queue.finished([12, 13])
    assert offered(queue) == [3, 4]
    assert not queue.anything_waits


def test_no_measure_of_others_knows_of_them() -> None:
    queue = with_best_effort(places=1)
    offered(queue, *range(1, 30))
    for now in range(20):
        queue.advance(float(now), IDLE)
    assert queue.expected_wait_s(20.0) == 0.0
    assert queue.statistics().requests == 0
    # Six places of the tier, none of them taken.
    assert offered(queue, *range(100, 107), tenant="a", now=20.0) == [100]
    assert len(queue) == 6


def test_tenants_share_what_is_left() -> None:
    queue = with_best_effort(places=1)
    started = offered(queue, 1, 2, 3) + offered(queue, 11, 12, 13, tenant="b in (batch)")
    for _ in range(4):
        queue.charge({"a in (batch)" if int(started[-1]) < 10 else "b in (batch)": 20})
        queue.finished([started[-1]])
        started += offered(queue)
    assert {each for each in started if int(each) > 10} == {11, 12}


def test_they_leave_the_queue_as_all_others_do() -> None:
    queue = with_best_effort(places=1)
    offered(queue, 1, 2, 3, 4)
    queue.withdraw(2)
    assert queue.next_expiry() == 100.0
    queue.advance(101.0, IDLE)
    assert [effect.job.job_id for effect in taken(queue.effects) if isinstance(effect, Reject)] == [3, 4]
    offered(queue, 5, now=101.0)
    queue.replica_down(0, "engine_failed", "it broke", 102.0)
    rejected = [effect.job.job_id for effect in taken(queue.effects) if isinstance(effect, Reject)]
    assert (rejected, queue.anything_waits) == ([5], False)
