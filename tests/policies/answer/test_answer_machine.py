"""One answer without a server: what is asked for in which order, deadlines, the commit point, and no leaks."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.answer.answer_effects import (
    AnswerEffect,
    Complete,
    EndAttempt,
    ForgetAnswer,
    OfferJob,
    Pause,
    Prepare,
    RecordOutcome,
    RequestPermit,
    WithdrawJob,
)
from policies.answer.answer_machine import AnswerMachine
from policies.fallback.fallback_machine import AnswerStatic, AttemptFailed, Break, GiveUp, Prefix, RungRefused
from policies.model.load import Permit
from policies.model.plan import Plan, PlannedCascade
from tests.policies.fallback.test_fallback_machine import ANSWER, planned, rung

PERMIT = Permit(1)
ENDS = (Complete, AnswerStatic, GiveUp, Break)
BROKE = AttemptFailed(kind="engine_failed", retryable=True)


def machine(plan: Plan, *, has: Prefix = (), chance: Callable[[], float] = lambda: 0.0) -> AnswerMachine:
    return AnswerMachine(plan, 1, client_has=lambda _rung: has, chance=chance)


def taken(answer: AnswerMachine) -> Iterator[AnswerEffect]:
    while answer.effects:
        yield answer.effects.popleft()


def did(answer: AnswerMachine) -> list[str]:
    return [type(effect).__name__ for effect in taken(answer)]


def offered(answer: AnswerMachine, now: float = 0.0, permit: Permit = PERMIT) -> None:
    """Through permit and preparation, into the queue of its backend."""
    for effect in taken(answer):
        match effect:
            case RequestPermit():
                answer.on_permit(permit)
            case Prepare(attempt):
                answer.prepared(attempt)
            case OfferJob():
                return
    raise AssertionError("nothing was offered")


def begun(plan: Plan, *, has: Prefix = (), now: float = 0.0) -> AnswerMachine:
    answer = machine(plan, has=has)
    answer.start(now)
    offered(answer, now)
    return answer


def cascade(**more: Any) -> PlannedCascade:
    return msgspec.structs.replace(
        PlannedCascade(
            small=rung("small"), large=rung("large"), threshold=0.5, mode="gate", window=3,
            start_on="small", may_escalate=True, why="default",
        ),
        **more,
    )  # fmt: skip


def test_an_answer_that_goes_well() -> None:
    answer = machine(planned(rung("large")))
    answer.start(0.0)
    effects = taken(answer)
    assert next(effects) == RequestPermit("large", is_retry=False)
    answer.on_permit(PERMIT)
    prepare = next(effects)
    assert isinstance(prepare, Prepare)
    assert prepare.attempt.cascade is None
    answer.prepared(prepare.attempt)
    assert list(effects) == [OfferJob(prepare.attempt)]
    answer.on_started(0.25)
    answer.on_output(1.0)
    answer.content_sent(1.0)
    assert (answer.committed, answer.rung) == (True, "large")
    answer.on_output(1.5)
    answer.on_complete(2.0, ended=True)
    ended, outcome, complete = taken(answer)
    assert (type(ended), outcome) == (EndAttempt, RecordOutcome("large", PERMIT, True, False, 0.75))
    assert isinstance(complete, Complete)
    assert (answer.attempt, answer.history[-1].why) == (None, "asked_for")


def test_a_backend_that_does_not_know_of_the_end_is_told() -> None:
    answer = begun(planned(rung("large")))
    answer.on_complete(1.0, ended=False)
    assert did(answer) == ["EndAttempt", "WithdrawJob", "RecordOutcome", "Complete"]


def test_a_refused_permit_is_not_recorded_and_a_refusal_after_it_is() -> None:
    answer = machine(planned(rung("large"), rung("small")))
    answer.start(0.0)
    assert did(answer) == ["RequestPermit"]
    answer.on_rejected(RungRefused(why="breaker_open"), 0.0)
    assert list(taken(answer)) == [ForgetAnswer(), RequestPermit("small", is_retry=False)]
    answer.on_permit(PERMIT)
    assert did(answer) == ["Prepare"]
    answer.on_rejected(RungRefused(why="prompt_too_long", lasting=True), 0.0)
    record, end = taken(answer)
    assert record == RecordOutcome("small", PERMIT, None, is_retry=False)
    assert isinstance(end, GiveUp)


@pytest.mark.parametrize(
    ("why", "draw", "told_s"), [("wait_too_long", 0.0, 4.0), ("wait_too_long", 1.0, 5.0), ("queue_full", 1.0, 4.0)]
)
def test_those_who_would_wait_too_long_are_sent_away_for_different_times(why: str, draw: float, told_s: float) -> None:
    answer = machine(planned(rung("large")), chance=lambda: draw)
    answer.start(0.0)
    list(taken(answer))
    answer.on_rejected(RungRefused(why=why, retry_after_s=4.0), 0.0)
    (gone,) = taken(answer)
    assert isinstance(gone, GiveUp)
    assert (gone.status, gone.code, gone.retry_after_s) == (429, why, told_s)


def test_the_first_output_came_when_it_came_not_when_its_reader_woke() -> None:
    answer = begun(planned(rung("large")))
    answer.on_started(1.0)
    answer.on_output(9.0, first_at=3.0)
    assert answer.attempt is not None
    assert answer.attempt.ttft_s == 2.0
    answer.on_failed(AttemptFailed(kind="engine_failed", retryable=False), 9.0, ok=False, ended=True)
    (outcome,) = [each for each in taken(answer) if isinstance(each, RecordOutcome)]
    assert outcome.ttft_s == 2.0


@pytest.mark.parametrize(
    ("started", "output_at", "now", "outcome", "ok"),
    [
        (False, None, 5.0, ("refused", "queue_timeout"), None),
        (True, None, 5.0, ("failed", "ttft_timeout"), False),
        (True, 4.0, 7.0, ("failed", "stall"), False),
        (True, 29.0, 30.0, ("failed", "total_timeout"), None),
    ],
)
def test_deadlines(
    started: bool, output_at: float | None, now: float, outcome: tuple[str, str], ok: bool | None
) -> None:
    plan = msgspec.structs.replace(planned(rung("large")), ttft_at=5.0, total_at=30.0, stall_s=3.0)
    answer = begun(plan)
    assert answer.due == 5.0
    if started:
        answer.on_started(0.0)
    if output_at is not None:
        answer.on_output(output_at)
    answer.on_deadline(now - 0.01)
    assert did(answer) == []
    assert answer.due == now
    answer.on_deadline(now)
    effects = list(taken(answer))
    assert [type(effect) for effect in effects[:3]] == [EndAttempt, WithdrawJob, RecordOutcome]
    assert (effects[2].ok, effects[-1].__class__) == (ok, GiveUp)
    assert (answer.history[0].outcome, answer.history[0].why) == outcome


def test_a_retry_waits_for_its_pause_and_asks_as_a_retry() -> None:
    far = msgspec.structs.replace(rung("cloud", retries=1), is_upstream=True)
    answer = machine(planned(far), chance=lambda: 0.5)
    answer.start(0.0)
    offered(answer)
    answer.on_failed(BROKE, 1.0, ok=False, ended=True)
    effects = list(taken(answer))
    assert [type(effect) for effect in effects] == [EndAttempt, RecordOutcome, ForgetAnswer, Pause]
    assert effects[3].until > 1.0
    answer.resumed()
    assert list(taken(answer)) == [RequestPermit("cloud", is_retry=True)]


def test_an_escalation_goes_on_after_what_the_client_has() -> None:
    small, large = rung("small", tokenizer="t"), rung("large", tokenizer="t")
    plan = msgspec.structs.replace(planned(rung("large")), cascade=cascade(small=small, large=large, mode="window"))
    answer = begun(plan, has=((7, 8),))
    assert answer.attempt is not None
    assert answer.attempt.cascade is not None
    answer.on_output(0.5)
    answer.content_sent(0.5)
    answer.on_escalated("low_margin", 1.0)
    effects = list(taken(answer))
    assert [type(effect) for effect in effects] == [EndAttempt, WithdrawJob, RecordOutcome, RequestPermit]
    assert (effects[0].ok, effects[3].rung) == (True, "large")
    answer.on_permit(PERMIT)
    (prepare,) = taken(answer)
    assert (prepare.attempt.wanted.prefix, prepare.attempt.cascade) == (((7, 8),), None)
    answer.prepared(prepare.attempt)
    answer.on_complete(2.0, ended=True)
    assert list(taken(answer))[-1] == Complete(prepare.attempt, "low_margin")


def test_before_the_commit_point_nothing_is_asked_of_the_client() -> None:
    def nobody(_rung: str) -> Prefix:
        raise AssertionError("the client has nothing")

    answer = AnswerMachine(planned(rung("large"), rung("small")), 1, client_has=nobody)
    answer.start(0.0)
    offered(answer)
    answer.on_failed(BROKE, 1.0, ok=False, ended=True)
    assert did(answer)[-1] == "RequestPermit"


def test_a_first_draft_is_waited_for_before_the_job_is_offered() -> None:
    answer = machine(planned(rung("large")))
    answer.start(0.0)
    list(taken(answer))
    answer.on_permit(PERMIT)
    (prepare,) = taken(answer)
    answer.prepared(prepare.attempt, draft_until=0.25)
    assert (did(answer), answer.due) == ([], 0.25)
    answer.draft_ready()
    assert did(answer) == ["OfferJob"]
    assert answer.due == prepare.attempt.wanted.deadline
    answer.on_complete(1.0, ended=True, draft_reason="verified")
    assert list(taken(answer))[-1] == Complete(prepare.attempt, "verified")


def test_what_is_complete_already_needs_no_job() -> None:
    answer = machine(planned(rung("large")))
    answer.start(0.0)
    list(taken(answer))
    answer.on_permit(PERMIT)
    (prepare,) = taken(answer)
    answer.on_nothing_left(prepare.attempt, 0.0)
    ended, record, complete = taken(answer)
    assert (ended.ok, record.ok, complete.reason) == (None, None, "asked_for")


@pytest.mark.parametrize("stage", ["asked", "permitted", "offered"])
def test_an_answer_that_is_stopped_leaves_no_permit_and_no_job(stage: str) -> None:
    answer = machine(planned(rung("large"), rung("small"), ANSWER))
    answer.start(0.0)
    if stage == "asked":
        list(taken(answer))
        answer.stop(client_left=True)
        assert did(answer) == []
        answer.on_permit(PERMIT)
    elif stage == "permitted":
        list(taken(answer))
        answer.on_permit(PERMIT)
        (prepare,) = taken(answer)
        answer.stop(client_left=True)
        assert list(taken(answer)) == [RecordOutcome("large", PERMIT, None, is_retry=False)]
        answer.prepared(prepare.attempt)
    else:
        offered(answer)
        answer.stop(client_left=True)
        ended, withdraw, record = taken(answer)
        assert (ended.client_left, type(withdraw), record.ok) == (True, WithdrawJob, None)
        assert answer.rung == "large"
    answer.stop()
    assert did(answer) == []


@settings(deadline=None)
@given(
    seed=st.integers(0, 10**6),
    midstream=st.sampled_from(["error", "continue", "restart"]),
    staged=st.sampled_from([None, "window", "gate"]),
    answers=st.booleans(),
)
def test_it_ends_once_and_every_permit_and_job_is_given_back(
    seed: int, midstream: Any, staged: Any, answers: bool
) -> None:
    """Whatever happens, in whatever order, until the answer has ended."""
    rng = Random(seed)
    ladder = [rung("large", retries=2, tokenizer="t"), rung("small", tokenizer="t"), rung("other")]
    plan = planned(*ladder, *([ANSWER] if answers else []))
    plan = msgspec.structs.replace(
        plan, midstream=midstream, cascade=None if staged is None else cascade(mode=staged), ttft_at=20.0, total_at=60.0
    )
    answer = AnswerMachine(plan, 1, client_has=lambda _rung: ((1, 2),), chance=rng.random)
    now = 0.0
    permits, jobs = dict[str, Permit](), set[int]()
    ends: list[object] = []
    answer.start(now)
    for _ in range(400):
        for effect in taken(answer):
            assert not ends, "nothing follows the end"
            match effect:
                case RequestPermit(name):
                    if rng.random() < 0.2:
                        answer.on_rejected(RungRefused(why="breaker_open"), now)
                    else:
                        assert name not in permits
                        permits[name] = Permit(rng.randrange(10**6))
                        answer.on_permit(permits[name])
                case Prepare(attempt):
                    if rng.random() < 0.1:
                        answer.on_rejected(RungRefused(why="prompt_too_long", lasting=True), now)
                    else:
                        answer.prepared(attempt)
                case OfferJob(attempt):
                    jobs.add(id(attempt))
                case Pause(until):
                    now = max(now, until)
                    answer.resumed()
                case EndAttempt(attempt):
                    jobs.discard(id(attempt))
                case RecordOutcome(name, permit):
                    assert permits.pop(name) == permit
                case effect if isinstance(effect, ENDS):
                    ends.append(effect)
                case _:
                    assert isinstance(effect, ForgetAnswer | WithdrawJob)
                    assert not (isinstance(effect, ForgetAnswer) and answer.committed)
        if ends:
            break
        now += rng.choice([0.0, 0.1, 1.0, 30.0])
        attempt = answer.attempt
        assert attempt is not None
        match rng.randrange(8):
            case 0:
                answer.on_started(now)
            case 1 | 2:
                answer.on_output(now)
                if rng.random() < 0.5:
                    answer.content_sent(now, atomic=rng.random() < 0.1)
            case 3:
                answer.on_complete(now, ended=rng.random() < 0.9, cascade_reason="confident")
            case 4 if attempt.cascade is not None:
                answer.on_escalated("low_margin", now)
            case 5:
                answer.on_failed(BROKE, now, ok=rng.choice([None, False]), ended=True)
            case 6:
                answer.on_rejected(RungRefused(why="queue_full"), now)
            case _:
                answer.on_deadline(now)
    assert len(ends) == 1
    assert (permits, jobs, answer.attempt) == ({}, set(), None)
    committed = answer.committed
    assert not (committed and isinstance(ends[0], GiveUp | AnswerStatic))
    assert committed or not isinstance(ends[0], Break)
