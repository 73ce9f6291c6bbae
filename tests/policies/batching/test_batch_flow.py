"""How many requests of batches are in flight, whose they are, and when a batch pauses."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from policies.batching.batch_flow import BatchFlow


def roomy(tenant: str, in_flight: int) -> bool:
    return True


def flow_of(*batches: str, most: int = 100, ahead: int = 3) -> BatchFlow:
    """Each batch of a tenant that is its first letter, with many requests."""
    flow = BatchFlow(most, ahead)
    for batch in batches:
        flow.add(batch, batch[0])
        flow.ready(batch, 1000)
    return flow


def begin(flow: BatchFlow, now: float = 0.0) -> list[str]:
    """As many as may be begun now."""
    begun = []
    while (batch := flow.next(now, roomy)) is not None:
        flow.begun(batch)
        begun.append(batch)
        flow.check_integrity()
    return begun


def test_a_few_wait_for_a_place_and_no_more() -> None:
    flow = flow_of("a1")
    assert begin(flow) == ["a1"] * 3
    flow.placed("a1")
    flow.placed("a1")
    assert begin(flow) == ["a1"] * 2
    assert flow.in_flight == 5


def test_as_many_are_in_flight_as_find_a_place() -> None:
    flow = flow_of("a1", most=1000)
    for _ in range(50):
        begin(flow)
        flow.placed("a1")
    assert flow.in_flight == 52


def test_there_is_a_bound_for_all_batches_together() -> None:
    flow = flow_of("a1", "b1", most=4)
    assert sorted(begin(flow)) == ["a1", "a1", "b1", "b1"]
    flow.ended("a1", 1.0, waited=True)
    assert begin(flow) == ["a1"]


def test_tenants_are_alike_however_many_batches_they_have() -> None:
    flow = flow_of("a1", "a2", "a3", "b1", most=6)
    assert sorted(begin(flow)) == ["a1", "a1", "a1", "b1", "b1", "b1"]


def test_the_older_batch_of_a_tenant_is_first() -> None:
    flow = flow_of("a2", "a1", most=2)
    assert begin(flow) == ["a2", "a2"]


def test_a_tenant_without_room_begins_nothing_and_holds_up_no_other() -> None:
    flow = flow_of("a1", "b1", most=100)
    assert flow.next(0.0, lambda tenant, _: tenant == "b") == "b1"
    assert flow.next(0.0, lambda *_: False) is None


def test_a_batch_pauses_for_longer_and_longer_until_something_succeeds() -> None:
    flow, now, pauses = flow_of("a1", ahead=1), 0.0, []
    for _ in range(9):
        assert begin(flow, now) == ["a1"]
        flow.ended("a1", now, waited=True, retry_after_s=1.0)
        at = now
        while flow.next(at, roomy) is None:
            at += 0.25
        pauses.append(at - now)
        now = at
    assert pauses == [1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    begin(flow, now)
    flow.ended("a1", now, waited=True)
    begin(flow, now)
    flow.ended("a1", now, waited=True, retry_after_s=3.0)
    assert flow.next(now + 2.9, roomy) is None
    assert flow.next(now + 3.0, roomy) == "a1"


def test_those_that_were_begun_before_a_pause_do_not_lengthen_it() -> None:
    flow = flow_of("a1")
    begin(flow)
    for _ in range(3):
        flow.ended("a1", 0.0, waited=True, retry_after_s=1.0)
    assert flow.next(1.0, roomy) == "a1"


def test_a_removed_batch_is_forgotten_with_what_it_has_in_flight() -> None:
    flow = flow_of("a1")
    begin(flow)
    flow.remove("a1")
    assert (flow.in_flight, flow.next(0.0, roomy)) == (0, None)
    flow.placed("a1")
    flow.ended("a1", 0.0, waited=False)
    flow.ready("a1", 3)
    flow.check_integrity()


def test_nothing_is_begun_of_a_batch_that_has_nothing_ready() -> None:
    flow = flow_of("a1")
    flow.ready("a1", 0)
    assert flow.next(0.0, roomy) is None


class FlowMachine(RuleBasedStateMachine):
    """Requests that wait, are placed and end in any order: the counts add up, and the bounds hold."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = BatchFlow(9, 2)
        self.now = 0.0
        self.waiting: list[str] = []
        self.placed: list[str] = []
        self.known: set[str] = set()

    @rule(batch=st.sampled_from(["a1", "a2", "b1"]), ready=st.integers(0, 5))
    def come(self, batch: str, ready: int) -> None:
        if batch not in self.known:
            self.known.add(batch)
            self.flow.add(batch, batch[0])
        self.flow.ready(batch, ready)

    @rule()
    def begin(self) -> None:
        batch = self.flow.next(self.now, roomy)
        if batch is not None:
            self.flow.begun(batch)
            self.waiting.append(batch)

    @precondition(lambda self: self.waiting)
    @rule()
    def place(self) -> None:
        self.placed.append(self.waiting.pop())
        self.flow.placed(self.placed[-1])

    @precondition(lambda self: self.waiting or self.placed)
    @rule(again=st.sampled_from([None, 0.5, 30.0]))
    def end(self, again: float | None) -> None:
        waited = not self.placed
        batch = (self.waiting if waited else self.placed).pop()
        self.flow.ended(batch, self.now, waited=waited, retry_after_s=again)

    @rule(passed=st.floats(0, 100))
    def wait(self, passed: float) -> None:
        self.now += passed

    @rule(batch=st.sampled_from(["a1", "a2", "b1"]))
    def go(self, batch: str) -> None:
        self.flow.remove(batch)
        self.known.discard(batch)
        self.waiting = [each for each in self.waiting if each != batch]
        self.placed = [each for each in self.placed if each != batch]

    @invariant()
    def adds_up(self) -> None:
        self.flow.check_integrity()
        assert self.flow.in_flight == len(self.waiting) + len(self.placed) <= 9
        assert all(self.waiting.count(batch) <= 2 for batch in self.known)


TestFlowMachine = FlowMachine.TestCase


@pytest.mark.parametrize("most", [1, 7])
def test_no_capacity_lies_idle_while_requests_are_ready(most: int) -> None:
    flow = flow_of("a1", "b1", most=most)
    assert len(begin(flow)) == min(most, 6)
