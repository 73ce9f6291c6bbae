"""The ladder's machine: by example, and that it ends whatever happens."""

from typing import Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.fallback.fallback_machine import (
    AnswerStatic,
    AttemptFailed,
    AttemptFinished,
    Begun,
    Break,
    ContentSent,
    Escalated,
    FallbackEvent,
    FallbackMachine,
    GiveUp,
    RungRefused,
    Try,
)
from policies.model.plan import AttemptRecord, Plan, PlannedCascade, PlannedRung

SMALL = PlannedRung(to="small", tokenizer="t")
LARGE = PlannedRung(to="large", tokenizer="t")
OTHER = PlannedRung(to="other", tokenizer="u")
ANSWER = PlannedRung(answer="Sorry.", mark="static")


def planned(
    *rungs: PlannedRung,
    cascade: bool = False,
    midstream: Literal["error", "continue", "restart"] = "error",
    start_on: Literal["small", "large"] = "small",
    may_escalate: bool = True,
) -> Plan:
    stages = PlannedCascade(
        small=SMALL,
        large=LARGE,
        threshold=1.0,
        mode="window",
        window=4,
        start_on=start_on,
        may_escalate=may_escalate,
        why="default",
    )
    return Plan(
        route="r",
        rungs=rungs,
        cascade=stages if cascade else None,
        ttft_at=10.0,
        total_at=60.0,
        stall_s=5.0,
        output_cap=None,
        midstream=midstream,
        reasons=(),
    )


def rung(
    to: str, retries: int = 0, ttft_s: float | None = None, tokenizer: str = "t", mark: str | None = None
) -> PlannedRung:
    return PlannedRung(to=to, retries=retries, ttft_s=ttft_s, tokenizer=tokenizer, mark=mark)


def tries(effect: object) -> Try:
    assert isinstance(effect, Try), effect
    return effect


BROKE = AttemptFailed(kind="engine_failed", retryable=True)


def test_the_first_rung_answers() -> None:
    machine = FallbackMachine(planned(rung("large", ttft_s=2)))
    assert tries(machine.start(1.0)) == Try(rung="large", attempt=1, deadline=3.0)
    assert machine.on(ContentSent(), 2.0) is None
    assert machine.committed
    assert machine.on(AttemptFinished("asked_for"), 3.0) is None
    assert machine.ended
    assert machine.history == (AttemptRecord("large", "answered", "asked_for"),)
    assert machine.on(BROKE, 4.0) is None


def test_retries_then_the_next_rung_then_the_static_answer() -> None:
    machine = FallbackMachine(planned(rung("large", retries=1), rung("small", mark="degraded"), ANSWER))
    assert not tries(machine.start(0.0)).is_retry
    again = tries(machine.on(BROKE, 1.0))
    assert (again.rung, again.attempt, again.is_retry) == ("large", 2, True)
    third = tries(machine.on(BROKE, 2.0))
    assert (third.rung, third.is_retry, third.mark, machine.mark) == ("small", False, "degraded", "degraded")
    assert machine.on(BROKE, 3.0) == AnswerStatic("Sorry.", "static")
    assert machine.ended
    assert [record.outcome for record in machine.history] == ["failed", "failed", "failed", "answered"]
    assert machine.history[-1].rung == "static_answer"


def test_without_a_retry_in_the_budget_the_next_rung_is_tried() -> None:
    machine = FallbackMachine(planned(rung("large", retries=5), rung("small")))
    machine.start(0.0)
    assert tries(machine.on(BROKE, 0.0)).is_retry
    assert tries(machine.on(RungRefused(why="retry_budget"), 0.0)).rung == "small"


def test_what_a_retry_does_not_help_is_not_retried() -> None:
    machine = FallbackMachine(planned(rung("large", retries=5), rung("small"), rung("large")))
    machine.start(0.0)
    assert tries(machine.on(AttemptFailed(kind="too_long_for_it", retryable=False), 0.0)).rung == "small"
    assert isinstance(machine.on(BROKE, 0.0), GiveUp)


def test_a_request_at_fault_gives_up_at_once() -> None:
    machine = FallbackMachine(planned(rung("large"), ANSWER))
    machine.start(0.0)
    fault = AttemptFailed(kind="bad_grammar", retryable=False, fatal=True, message="The grammar has no start.")
    assert machine.on(fault, 0.0) == GiveUp(status=400, code="bad_grammar", message="The grammar has no start.")


def test_full_queues_are_reported_as_such() -> None:
    machine = FallbackMachine(planned(rung("large"), rung("small")))
    machine.start(0.0)
    machine.on(RungRefused(why="queue_full", retry_after_s=4.0), 0.0)
    end = machine.on(RungRefused(why="queue_full", retry_after_s=2.0, message="The queue is full."), 0.0)
    assert end == GiveUp(status=429, code="queue_full", message="The queue is full.", retry_after_s=2.0)


def test_no_rung_left() -> None:
    machine = FallbackMachine(planned(rung("large"), rung("small")))
    machine.start(0.0)
    machine.on(RungRefused(why="breaker_open", retry_after_s=4.0), 0.0)
    end = machine.on(BROKE, 0.0)
    assert isinstance(end, GiveUp)
    assert (end.status, end.code, end.retry_after_s) == (503, "no_rung_available", 4.0)
    assert "large: breaker_open, small: engine_failed" in end.message


def test_the_deadline_bounds_the_whole_ladder() -> None:
    machine = FallbackMachine(planned(rung("large", retries=3, ttft_s=6), rung("small")))
    assert tries(machine.start(0.0)).deadline == 6.0
    late = AttemptFailed(kind="ttft_timeout", retryable=True)
    assert tries(machine.on(late, 6.0)).deadline == 10.0
    end = machine.on(late, 10.0)
    assert isinstance(end, GiveUp)
    assert (end.status, end.code) == (504, "ttft_timeout")


@pytest.mark.parametrize(
    ("rungs", "cascade", "expected"),
    [
        # The last rung has all the time; one that another could follow two thirds of what is left.
        ((rung("large"),), False, [9.0]),
        ((rung("large"), rung("small")), False, [6.0, 9.0]),
        ((rung("large"), rung("small"), rung("third")), False, [6.0, 8.0, 9.0]),
        # Nothing else follows: the same rung again, and a static answer takes no time.
        ((rung("large"), rung("large")), False, [9.0]),
        ((rung("large"), ANSWER), False, [9.0]),
        # A rung's own limit.
        ((rung("large", ttft_s=8.5), rung("small")), False, [8.5, 9.0]),
        ((rung("large", ttft_s=100), rung("small")), False, [9.0]),
        # A stage is followed by the ladder.
        ((rung("large"),), True, [6.0, 9.0]),
        ((ANSWER,), True, [9.0]),
    ],
)
def test_what_hangs_leaves_time_for_what_follows(rungs, cascade, expected) -> None:
    plan = msgspec.structs.replace(planned(*rungs, cascade=cascade), ttft_at=9.0)
    machine = FallbackMachine(plan)
    effect = machine.start(0.0)
    deadlines = []
    while isinstance(effect, Try):
        deadlines.append(effect.deadline)
        effect = machine.on(AttemptFailed(kind="ttft_timeout", retryable=False), effect.deadline)
    assert deadlines == pytest.approx(expected)
    if not isinstance(effect, AnswerStatic):
        assert (effect.status, effect.code) == (504, "ttft_timeout")


@pytest.mark.parametrize(
    ("first_by", "rung_s", "expected"),
    [(None, None, [None, None]), (9.0, None, [6.0, 9.0]), (4.0, None, [4.0, 4.0]), (9.0, 2.0, [2.0, 9.0])],
)
def test_a_rung_is_not_waited_for_longer_than_it_has(first_by, rung_s, expected) -> None:
    plan = planned(rung("large", ttft_s=rung_s), rung("small"))
    machine = FallbackMachine(msgspec.structs.replace(plan, ttft_at=9.0, first_by=first_by))
    first = tries(machine.start(0.0))
    second = tries(machine.on(RungRefused(why="wait_too_long"), 0.0))
    assert [first.first_by, second.first_by] == expected


@pytest.mark.parametrize(("came", "expected"), [(False, "gives up"), (True, "the next, until 40")])
def test_once_a_token_came_in_time_the_answer_has_until_total(*, came: bool, expected: str) -> None:
    machine = FallbackMachine(planned(rung("large"), rung("small")))
    machine.start(0.0)
    if came:
        machine.output_came()
    effect = machine.on(BROKE, 30.0)
    if expected == "gives up":
        assert isinstance(effect, GiveUp)
        assert effect.code == "ttft_timeout"
        return
    assert (tries(effect).rung, tries(effect).deadline, tries(effect).begun) == ("small", 40.0, True)
    late = machine.on(AttemptFailed(kind="ttft_timeout", retryable=False), 40.0)
    assert isinstance(late, GiveUp)
    assert late.code == "no_rung_available"


def test_a_static_answer_is_given_even_then() -> None:
    machine = FallbackMachine(planned(rung("large"), rung("small"), ANSWER))
    machine.start(0.0)
    assert isinstance(machine.on(AttemptFailed(kind="ttft_timeout", retryable=True), 10.0), AnswerStatic)


def test_after_the_commit_point_error_breaks() -> None:
    machine = FallbackMachine(planned(rung("large", retries=3), rung("small"), ANSWER))
    machine.start(0.0)
    machine.on(ContentSent(), 1.0)
    end = machine.on(AttemptFailed(kind="engine_failed", retryable=True, prefix=((1, 2),)), 2.0)
    assert isinstance(end, Break)
    assert "incomplete" in end.message


def test_after_the_commit_point_restart_breaks_too() -> None:
    machine = FallbackMachine(planned(rung("large"), rung("small"), midstream="restart"))
    machine.start(0.0)
    machine.on(ContentSent(), 1.0)
    assert isinstance(machine.on(AttemptFailed(kind="x", retryable=True, prefix=((1,),)), 2.0), Break)


def test_continue_goes_on_from_the_exact_tokens_on_the_same_tokenizer() -> None:
    machine = FallbackMachine(planned(rung("large", retries=3), OTHER, rung("small"), midstream="continue"))
    machine.start(0.0)
    machine.on(ContentSent(), 1.0)
    on = tries(machine.on(AttemptFailed(kind="stall", retryable=True, prefix=((1, 2),)), 20.0))
    assert (on.rung, on.prefix, on.deadline, on.is_retry) == ("small", ((1, 2),), 30.0, False)
    assert machine.on(AttemptFinished(), 21.0) is None
    assert [record.rung for record in machine.history] == ["large", "small"]


def test_continue_goes_on_on_the_rest_of_a_rung_that_lost_a_part() -> None:
    machine = FallbackMachine(planned(rung("large", retries=1), rung("small"), midstream="continue"))
    machine.start(0.0)
    machine.on(ContentSent(), 1.0)
    lost = AttemptFailed(kind="device_lost", retryable=True, prefix=((1, 2),), rung_is_up=True)
    on = tries(machine.on(lost, 20.0))
    assert (on.rung, on.prefix, on.is_retry) == ("large", ((1, 2),), True)
    assert tries(machine.on(lost, 21.0)).rung == "small"
    machine = FallbackMachine(planned(rung("large", retries=1)))
    machine.start(0.0)
    machine.on(ContentSent(), 1.0)
    assert isinstance(machine.on(lost, 2.0), Break)


@pytest.mark.parametrize(
    ("first", "second", "prefix"),
    [
        (rung("large"), OTHER, ((1,),)),
        (rung("large", tokenizer=""), rung("small", tokenizer=""), ((1,),)),
        (rung("large"), rung("small"), ()),
        (rung("large"), rung("small"), ((),)),
        (rung("large"), ANSWER, ((1,),)),
    ],
)
def test_continue_breaks_where_it_cannot(
    first: PlannedRung, second: PlannedRung, prefix: tuple[tuple[int, ...], ...]
) -> None:
    machine = FallbackMachine(planned(first, second, midstream="continue"))
    machine.start(0.0)
    machine.on(ContentSent(), 1.0)
    assert isinstance(machine.on(AttemptFailed(kind="x", retryable=True, prefix=prefix), 2.0), Break)


@pytest.mark.parametrize(
    ("other", "prefix", "expected"),
    [
        (rung("large"), ((1, 2),), "goes on"),
        (rung("large"), (), "breaks"),
        (rung("large", tokenizer="another"), ((1, 2),), "breaks"),
        (PlannedRung(to="cloud", from_text=True), ((1, 2),), "breaks"),
        (PlannedRung(to="cloud", from_text=True, tokenizer="t"), ((1, 2),), "goes on"),
    ],
)
def test_a_tool_call_or_json_goes_on_from_its_exact_tokens_only(other, prefix, expected) -> None:
    machine = FallbackMachine(planned(rung("small"), other, midstream="continue"))
    machine.start(0.0)
    machine.on(ContentSent(), 1.0)
    machine.on(ContentSent(atomic=True), 1.0)
    machine.on(ContentSent(), 1.0)
    effect = machine.on(msgspec.structs.replace(BROKE, prefix=prefix), 2.0)
    if expected == "goes on":
        assert (tries(effect).prefix, tries(effect).from_text) == (prefix, False)
    else:
        assert isinstance(effect, Break)


CRASHED = msgspec.structs.replace(BROKE, restarts=True)


def test_with_no_other_rung_it_waits_for_the_restart_at_most_twice() -> None:
    machine = FallbackMachine(planned(rung("small"), midstream="continue"))
    machine.start(0.0)
    for _ in range(2):
        wanted = tries(machine.on(CRASHED, 2.0))
        assert (wanted.rung, wanted.waits_for_restart, wanted.is_retry, wanted.deadline) == ("small", True, False, 10.0)
    assert isinstance(machine.on(CRASHED, 3.0), GiveUp)


def test_other_rungs_come_before_a_restart() -> None:
    machine = FallbackMachine(planned(rung("small"), rung("large"), midstream="continue"))
    machine.start(0.0)
    machine.on(ContentSent(), 1.0)
    wanted = tries(machine.on(msgspec.structs.replace(CRASHED, prefix=((1, 2),)), 2.0))
    assert (wanted.rung, wanted.waits_for_restart, wanted.prefix) == ("large", False, ((1, 2),))
    wanted = tries(machine.on(RungRefused(why="queue_full", prefix=((1, 2),)), 3.0))
    # The client waits no longer for it than for any other part.
    assert (wanted.rung, wanted.waits_for_restart, wanted.prefix, wanted.deadline) == ("small", True, ((1, 2),), 8.0)
    assert isinstance(machine.on(RungRefused(why="queue_timeout"), 8.0), Break)


@pytest.mark.parametrize(
    ("midstream", "prefix", "now"), [("error", ((1, 2),), 2.0), ("restart", ((1, 2),), 2.0), ("continue", (), 2.0)]
)
def test_it_does_not_wait_for_what_cannot_go_on(midstream, prefix, now) -> None:
    machine = FallbackMachine(planned(rung("small"), midstream=midstream))
    machine.start(0.0)
    machine.on(ContentSent(), 1.0)
    assert isinstance(machine.on(msgspec.structs.replace(CRASHED, prefix=prefix), now), Break)


def test_tokens_known_from_one_rung_serve_another_after_a_refusal_between() -> None:
    machine = FallbackMachine(
        planned(rung("small"), PlannedRung(to="cloud", from_text=True), rung("large"), midstream="continue")
    )
    machine.start(0.0)
    machine.on(ContentSent(), 1.0)
    assert tries(machine.on(msgspec.structs.replace(BROKE, prefix=((1, 2),)), 2.0)).rung == "cloud"
    wanted = tries(machine.on(RungRefused(why="not_expressible", prefix=((1, 2),)), 2.0))
    assert (wanted.rung, wanted.prefix) == ("large", ((1, 2),))


def test_a_cascade_whose_call_was_shown_does_not_escalate() -> None:
    cascaded = FallbackMachine(planned(rung("large"), cascade=True, midstream="continue"))
    cascaded.start(0.0)
    cascaded.on(ContentSent(atomic=True), 1.0)
    assert isinstance(cascaded.on(Escalated(prefix=((1, 2),)), 2.0), Break)


def test_the_cascade_starts_small_and_escalates() -> None:
    machine = FallbackMachine(planned(rung("large", retries=1), rung("small", mark="degraded"), cascade=True))
    first = tries(machine.start(0.0))
    assert (first.rung, first.watched) == ("small", True)
    second = tries(machine.on(Escalated(), 1.0))
    assert (second.rung, second.watched, second.is_retry, second.prefix) == ("large", False, False, ())
    machine.on(AttemptFinished(), 2.0)
    assert machine.history == (
        AttemptRecord("small", "escalated", "low_margin"),
        AttemptRecord("large", "answered", "answered"),
    )


def test_the_cascade_escalates_after_the_commit_point_whatever_midstream_says() -> None:
    machine = FallbackMachine(planned(rung("large"), rung("small"), cascade=True, midstream="error"))
    machine.start(0.0)
    machine.on(ContentSent(), 1.0)
    on = tries(machine.on(Escalated(prefix=((1, 2, 3),)), 20.0))
    assert (on.rung, on.prefix, on.deadline) == ("large", ((1, 2, 3),), 30.0)
    assert isinstance(machine.on(RungRefused(why="queue_full"), 20.0), Break)


def test_a_refused_escalation_after_the_commit_point_continues_if_the_plan_says_so() -> None:
    machine = FallbackMachine(
        planned(rung("large"), rung("small", mark="degraded"), cascade=True, midstream="continue")
    )
    machine.start(0.0)
    machine.on(ContentSent(), 1.0)
    machine.on(Escalated(prefix=((1,),)), 2.0)
    on = tries(machine.on(RungRefused(why="breaker_open"), 2.0))
    assert (on.rung, on.prefix, on.watched, on.mark) == ("small", ((1,),), False, "degraded")


def test_a_stage_that_cannot_serve_hands_over_to_the_ladder() -> None:
    machine = FallbackMachine(planned(rung("large", retries=1), rung("small", mark="degraded"), cascade=True))
    machine.start(0.0)
    machine.on(Escalated(), 1.0)
    again = tries(machine.on(BROKE, 2.0))
    assert (again.rung, again.is_retry) == ("large", True)
    machine.on(BROKE, 2.0)
    assert machine.on(RungRefused(why="retry_budget"), 2.0) == tries(
        Try(rung="small", attempt=5, deadline=10.0, mark="degraded", begun=True)
    )


def test_a_small_stage_that_is_refused_goes_to_the_ladder_and_is_not_asked_again() -> None:
    machine = FallbackMachine(planned(rung("small"), rung("large"), cascade=True))
    machine.start(0.0)
    on = tries(machine.on(RungRefused(why="breaker_open"), 0.0))
    assert (on.rung, on.watched) == ("large", False)


def test_starting_large_and_staying_small() -> None:
    large = FallbackMachine(planned(rung("small"), cascade=True, start_on="large"))
    assert tries(large.start(0.0)).rung == "large"
    assert large.on(Escalated(), 0.0) is None
    assert tries(large.on(BROKE, 0.0)).rung == "small"
    busy = FallbackMachine(planned(rung("large"), cascade=True, may_escalate=False))
    assert not tries(busy.start(0.0)).watched


def test_a_machine_starts_once() -> None:
    machine = FallbackMachine(planned(rung("large")))
    machine.start(0.0)
    with pytest.raises(RuntimeError):
        machine.start(0.0)


RUNGS = st.lists(
    st.one_of(
        st.builds(
            PlannedRung,
            to=st.just("cloud"),
            retries=st.integers(0, 3),
            is_upstream=st.just(True),
            from_text=st.booleans(),
            tokenizer=st.sampled_from(["", "t"]),
        ),
        st.builds(
            rung,
            st.sampled_from(["small", "large", "third"]),
            retries=st.integers(0, 3),
            ttft_s=st.sampled_from([None, 1.0, 100.0]),
            tokenizer=st.sampled_from(["", "t", "u"]),
        ),
        st.just(ANSWER),
    ),
    min_size=1,
    max_size=5,
)
PREFIXES = st.sampled_from([(), ((),), ((1, 2),), ((), (3,))])
EVENTS = st.one_of(
    st.just(ContentSent()),
    st.builds(
        AttemptFailed,
        kind=st.sampled_from(["engine_failed", "stall"]),
        retryable=st.booleans(),
        fatal=st.sampled_from([False, False, False, True]),
        prefix=PREFIXES,
        rung_is_up=st.booleans(),
    ),
    st.builds(RungRefused, why=st.sampled_from(["breaker_open", "queue_full", "retry_budget"])),
    st.builds(Escalated, prefix=PREFIXES),
    st.just(AttemptFinished()),
)


@settings(max_examples=250, deadline=None)
@given(
    rungs=RUNGS,
    cascade=st.booleans(),
    midstream=st.sampled_from(["error", "continue", "restart"]),
    start_on=st.sampled_from(["small", "large"]),
    steps=st.lists(st.tuples(EVENTS, st.sampled_from([0.0, 0.0, 0.1, 5.0, 50.0])), max_size=40),
)
def test_it_always_ends_and_keeps_its_rules(
    rungs: list[PlannedRung],
    cascade: bool,
    midstream: Literal["error", "continue", "restart"],
    start_on: Literal["small", "large"],
    steps: list[tuple[FallbackEvent, float]],
) -> None:
    plan = planned(*rungs, cascade=cascade, midstream=midstream, start_on=start_on)
    upstreams = {each.to for each in rungs if each.is_upstream}
    most = sum(1 + each.retries * (1 + each.is_upstream) for each in rungs) + (2 if cascade else 0)
    machine = FallbackMachine(plan)
    now = 0.0
    committed = False
    attempts = 0
    refused: set[str] = set()
    broke: set[str] = set()
    current: Try | None = None
    last: FallbackEvent | None = None
    # Whatever came before, failures end it within the attempts that the plan allows.
    failures: list[tuple[FallbackEvent, float]] = [(AttemptFailed(kind="x", retryable=True, prefix=((1,),)), 0.0)] * (
        most + 1
    )
    effect: object = machine.start(now)
    for event, passed in [*steps, *failures]:
        match effect:
            case Try():
                attempts += 1
                assert attempts == effect.attempt <= most
                assert effect.rung not in refused
                assert now < effect.deadline <= plan.total_at
                assert effect.deadline <= plan.ttft_at or committed
                assert (bool(effect.prefix) or effect.from_text) == committed
                assert effect.is_retry == (effect.rung in broke)
                if committed:
                    assert midstream == "continue" or isinstance(last, Escalated)
                current = effect
            case AnswerStatic() | GiveUp():
                assert not committed
                assert machine.ended
            case Break():
                assert committed
                assert machine.ended
        if machine.ended:
            break
        now += passed
        last = event
        assert current is not None
        match event:
            case ContentSent():
                committed = True
            case RungRefused(why=why) if why != "retry_budget":
                refused.add(current.rung)
            case AttemptFailed(kind=kind, retryable=retryable) if retryable or (
                kind == "stall" and current.rung in upstreams
            ):
                broke.add(current.rung)
            case AttemptFailed(retryable=False):
                refused.add(current.rung)
        before = len(machine.history)
        effect = machine.on(event, now)
        assert machine.committed == committed
        if effect is not None and not isinstance(effect, AnswerStatic):
            assert len(machine.history) == before + 1
    assert machine.ended
    outcomes = [record.outcome for record in machine.history]
    assert outcomes.count("answered") <= 1
    assert "answered" not in outcomes[:-1]
    for event, _ in steps:
        assert machine.on(event, now) is None


@pytest.mark.parametrize(
    ("last", "status", "code"),
    [
        (RungRefused(why="prompt_too_long", lasting=True), 400, "context_length_exceeded"),
        (RungRefused(why="not_expressible", lasting=True), 400, "not_expressible"),
        (RungRefused(why="breaker_open"), 503, "no_rung_available"),
        (AttemptFailed(kind="engine_failed", retryable=False), 503, "no_rung_available"),
    ],
)
def test_what_no_rung_will_ever_take_is_the_requests_fault_also_after_an_escalation(
    last: FallbackEvent, status: int, code: str
) -> None:
    machine = FallbackMachine(planned(OTHER, cascade=True))
    machine.start(0.0)
    machine.on(Escalated(), 1.0)
    asked = machine.on(RungRefused(why="prompt_too_long", lasting=True), 1.0)
    assert isinstance(asked, Try)
    assert asked.rung == "other"
    given_up = machine.on(last, 2.0)
    assert isinstance(given_up, GiveUp)
    assert (given_up.status, given_up.code) == (status, code)


CLOUD = PlannedRung(to="cloud", retries=2, is_upstream=True, wait_out_s=2.0, ttft_s=4.0)
BUSY = RungRefused(why="upstream_busy", retry_after_s=1.5)


def test_an_upstream_is_asked_again_after_a_pause_and_an_engine_at_once() -> None:
    machine = FallbackMachine(planned(CLOUD, rung("large", retries=1)))
    machine.start(0.0)
    again = tries(machine.on(BROKE, 1.0, 0.0))
    assert (again.rung, again.not_before, again.deadline) == ("cloud", 1.5, 5.5)
    again = tries(machine.on(BROKE, 2.0, 0.0))
    assert (again.rung, again.not_before) == ("cloud", 3.0)
    first = tries(machine.on(BROKE, 3.0, 0.0))
    assert (first.rung, first.not_before) == ("large", 0.0)
    assert tries(machine.on(BROKE, 3.0, 0.0)).not_before == 0.0


def cloud(to: str = "cloud", retries: int = 1, *, goes_on: bool = True, tokenizer: str = "") -> PlannedRung:
    return PlannedRung(
        to=to, retries=retries, is_upstream=True, from_text=goes_on, goes_on=goes_on, tokenizer=tokenizer
    )


CUT = AttemptFailed(kind="upstream_truncated", retryable=True)
STALLED = AttemptFailed(kind="stall", retryable=False)
SPENT = RungRefused(why="retry_budget")
ANSWER_SENT, REASONING_SENT, CALL_SENT = ContentSent(), ContentSent(answer=False), ContentSent(atomic=True)
BROKEN_OFF = {
    # The rungs, midstream, what happens, and who is tried: "+" after a pause, ">" goes on from the text.
    "cut": ((cloud(),), "continue", [ANSWER_SENT, CUT], "cloud cloud+>"),
    "cut twice": ((cloud(),), "continue", [ANSWER_SENT, CUT, CUT], "cloud cloud+> !"),
    "cut twice, two retries": ((cloud(retries=2),), "continue", [ANSWER_SENT, CUT, CUT], "cloud cloud+> cloud+>"),
    "no retries": ((cloud(retries=0),), "continue", [ANSWER_SENT, CUT], "cloud !"),
    "retries count anew": ((cloud(),), "continue", [CUT, ANSWER_SENT, CUT, CUT], "cloud cloud+ cloud+> !"),
    "stalled": ((cloud(),), "continue", [ANSWER_SENT, STALLED], "cloud cloud+>"),
    "stalled with nothing sent": ((cloud(),), "error", [STALLED, ANSWER_SENT, STALLED], "cloud cloud+ !"),
    "others first": (
        (cloud(), cloud("other")),
        "continue",
        [ANSWER_SENT, CUT, CUT, CUT, CUT],
        "cloud other> cloud+> other+> !",
    ),
    "the other is refused": (
        (cloud(), cloud("other")),
        "continue",
        [ANSWER_SENT, CUT, RungRefused(why="breaker_open")],
        "cloud other> cloud+>",
    ),
    "the budget is spent": ((cloud(),), "continue", [ANSWER_SENT, CUT, SPENT], "cloud cloud+> !"),
    "it asks for a pause": (
        (cloud(),),
        "continue",
        [ANSWER_SENT, msgspec.structs.replace(CUT, retry_after_s=1.0)],
        "cloud !",
    ),
    "it cannot go on": ((cloud(goes_on=False),), "continue", [ANSWER_SENT, CUT], "cloud !"),
    "only reasoning was sent": ((cloud(goes_on=False),), "continue", [REASONING_SENT, CUT], "cloud cloud+"),
    "restart": ((cloud(),), "restart", [ANSWER_SENT, CUT], "cloud !"),
    "restart, only reasoning": ((cloud(),), "restart", [REASONING_SENT, CUT], "cloud cloud+"),
    "error": ((cloud(),), "error", [ANSWER_SENT, CUT], "cloud !"),
    "inside a call": ((cloud(),), "continue", [CALL_SENT, CUT], "cloud !"),
    "an engine's cut": ((rung("large", retries=3),), "continue", [ANSWER_SENT, BROKE], "large !"),
}


@pytest.mark.parametrize("case", BROKEN_OFF)
def test_an_upstream_that_broke_off_is_asked_again_when_no_other_rung_is_left(case) -> None:
    rungs, midstream, events, expected = BROKEN_OFF[case]
    machine = FallbackMachine(planned(*rungs, midstream=midstream))
    effects = [machine.start(0.0), *(machine.on(event, 1.0) for event in events)]
    words = []
    for effect in effects:
        match effect:
            case Try(rung=name, not_before=not_before, from_text=from_text, is_retry=is_retry):
                assert is_retry == (not_before > 0)
                words.append(name + "+" * is_retry + ">" * from_text)
            case Break() | GiveUp():
                words.append("!")
    assert " ".join(words) == expected


@pytest.mark.parametrize(("total_at", "stall_s"), [(1.4, 5.0), (60.0, 0.4)])
def test_an_upstream_is_not_asked_again_where_its_pause_is_longer_than_the_client_waits(total_at, stall_s) -> None:
    plan = msgspec.structs.replace(planned(cloud(), midstream="continue"), total_at=total_at, stall_s=stall_s)
    machine = FallbackMachine(plan)
    machine.start(0.0)
    machine.on(ContentSent(), 1.0)
    assert isinstance(machine.on(CUT, 1.0, 0.0), Break)


def test_a_pause_that_is_asked_for_is_waited_out_as_a_retry_and_once() -> None:
    machine = FallbackMachine(planned(CLOUD, rung("large")))
    machine.start(0.0)
    again = tries(machine.on(BUSY, 1.0, 0.0))
    assert (again.rung, again.is_retry) == ("cloud", True)
    assert 2.5 < again.not_before < 2.7
    assert tries(machine.on(BUSY, 3.0, 0.0)).rung == "large"


def test_a_pause_that_is_too_long_is_a_step_down() -> None:
    machine = FallbackMachine(planned(CLOUD, rung("large")))
    machine.start(0.0)
    assert tries(machine.on(RungRefused(why="upstream_busy", retry_after_s=2.5), 1.0)).rung == "large"


def test_a_bad_request_gets_no_static_answer() -> None:
    machine = FallbackMachine(planned(CLOUD, ANSWER))
    machine.start(0.0)
    end = machine.on(RungRefused(why="upstream_rejected", lasting=True, message="Bad."), 0.0)
    assert end == GiveUp(status=400, code="upstream_rejected", message="Bad.")


def test_a_content_filter_is_final_unless_the_plan_says_otherwise() -> None:
    filtered = RungRefused(why="content_filter", lasting=True, message="Filtered.")
    machine = FallbackMachine(planned(CLOUD, rung("large")))
    machine.start(0.0)
    assert machine.on(filtered, 0.0) == GiveUp(status=400, code="content_filter", message="Filtered.")
    machine = FallbackMachine(msgspec.structs.replace(planned(CLOUD, rung("large")), on_content_filter="next"))
    machine.start(0.0)
    assert tries(machine.on(filtered, 0.0)).rung == "large"


def begun(tokenizer: str = "t", *, atomic: bool = False, answer: bool = True, known: bool = True) -> Begun:
    return Begun(rung="small", prefix=((1, 2),) if known else (), tokenizer=tokenizer, atomic=atomic, answer=answer)


TEXT = PlannedRung(to="cloud", is_upstream=True, from_text=True)
BEGUN = [
    # What has begun, the plan, and the rung that goes on, from the tokens or from the text; None: none does.
    (begun(), planned(SMALL, midstream="continue"), ("small", True)),
    (begun(), planned(OTHER, LARGE, midstream="continue"), ("large", True)),
    (begun(), planned(OTHER, TEXT, midstream="continue"), ("cloud", False)),
    (begun(known=False), planned(SMALL, TEXT, midstream="continue"), ("cloud", False)),
    (begun(tokenizer=""), planned(SMALL, midstream="continue"), None),
    (begun(atomic=True), planned(TEXT, LARGE, midstream="continue"), ("large", True)),
    (begun(atomic=True), planned(TEXT, midstream="continue"), None),
    (begun(), planned(SMALL, midstream="error"), None),
    (begun(), planned(SMALL, midstream="restart"), None),
    (begun(), planned(ANSWER, midstream="continue"), None),
    (begun(), planned(OTHER, cascade=True, midstream="continue"), ("large", True)),
    (begun(), planned(OTHER, cascade=True, start_on="large", midstream="continue"), ("large", True)),
]


@pytest.mark.parametrize(("what", "plan", "expected"), BEGUN)
def test_another_process_goes_on(what: Begun, plan: Plan, expected: tuple[str, bool] | None) -> None:
    machine = FallbackMachine(plan)
    effect = machine.go_on(what, 1.0)
    assert machine.committed
    assert machine.history[0] == AttemptRecord("small", "failed", "process_ended")
    if expected is None:
        assert isinstance(effect, Break)
        assert machine.ended
        return
    name, by_tokens = expected
    trial = tries(effect)
    assert (trial.rung, trial.prefix, trial.from_text) == (name, what.prefix if by_tokens else (), not by_tokens)
    assert (trial.deadline, trial.watched, trial.drafted) == (10.0, False, False)


@pytest.mark.parametrize("midstream", ["continue", "restart"])
def test_another_process_begins_anew_where_only_reasoning_was_sent(midstream: Literal["continue", "restart"]) -> None:
    trial = tries(FallbackMachine(planned(OTHER, midstream=midstream)).go_on(begun(answer=False), 1.0))
    assert (trial.rung, trial.prefix, trial.from_text) == ("other", (), False)


def test_another_process_comes_too_late() -> None:
    effect = FallbackMachine(planned(SMALL, midstream="continue")).go_on(begun(), 60.0)
    assert isinstance(effect, Break)
    assert effect.code == "total_timeout"
