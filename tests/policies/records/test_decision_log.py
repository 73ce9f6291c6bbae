"""The decision log keeps the newest decisions, within both bounds."""

from hypothesis import given
from hypothesis import strategies as st

from policies.model.features import Features
from policies.model.load import Load
from policies.model.plan import AttemptRecord
from policies.records.decision_log import DecisionEnd, DecisionLog, LoggedDecision
from policies.records.decision_record import Timings, TokenCounts, decode_record, encode_record


def decision(number: int, *, text: int = 0) -> LoggedDecision:
    features = Features(model="m", tenant="t", tier="d", prompt_tokens=3, max_tokens=4, user="u" * text, at=5.0)
    return LoggedDecision(f"r{number}", arrived_at=1.0, policy="abc", features=features, load=Load(), plan=None)


def test_a_decision_is_a_record_before_and_after_its_end() -> None:
    log = DecisionLog(10, 10**6)
    made = decision(1)
    log.add(made)
    begun = log.find("r1")
    assert begun is not None
    assert (begun.outcome, begun.policy, begun.at) == ("", "abc", 5.0)
    made.end = DecisionEnd(
        outcome="ok",
        code="",
        rung="small",
        attempts=(AttemptRecord("small", "answered", "asked_for"),),
        tokens=TokenCounts(prompt=3, completion=9),
        timings=Timings(total=0.5),
    )
    ended = log.find("r1")
    assert ended is not None
    assert (ended.outcome, ended.rung, ended.tokens.completion, ended.timings.total) == ("ok", "small", 9, 0.5)
    assert decode_record(encode_record(ended)) == ended
    assert log.find("r2") is None


def test_the_same_id_is_kept_once() -> None:
    log = DecisionLog(10, 10**6)
    log.add(decision(1, text=1000))
    log.add(decision(1))
    assert (len(log), log.bytes) == (1, decision(1).bytes)


def test_smaller_bounds_hold_at_once() -> None:
    log = DecisionLog(10, 10**6)
    for number in range(10):
        log.add(decision(number))
    log.apply_settings(3, 10**6)
    assert [log.find(f"r{number}") is not None for number in range(10)] == [False] * 7 + [True] * 3
    log.apply_settings(0, 10**6)
    assert (len(log), log.bytes) == (0, 0)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5000)), max_size=80),
    st.integers(0, 12),
    st.integers(0, 40_000),
)
def test_both_bounds_hold_and_the_newest_stay(added: list[tuple[int, int]], max_decisions: int, max_bytes: int) -> None:
    log = DecisionLog(max_decisions, max_bytes)
    order: list[tuple[int, int]] = []
    for number, text in added:
        made = decision(number, text=text)
        log.add(made)
        order = [*(pair for pair in order if pair[0] != number), (number, made.bytes)]
        while len(order) > max_decisions or sum(size for _, size in order) > max_bytes:
            order.pop(0)
        assert len(log) == len(order) <= max_decisions
        assert log.bytes == sum(size for _, size in order) <= max_bytes
    assert all(log.find(f"r{number}") is not None for number, _ in order)
