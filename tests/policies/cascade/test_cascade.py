"""What the cascade releases, and when it decides."""

import math
from typing import Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model.judging import JudgeSettings
from policies.cascade.cascade import Accept, AskJudge, CascadeEffect, CascadeMachine, Escalate, Release
from policies.cascade.text_spans import TextSpans
from policies.model.plan import Atomic, PlannedCascade, PlannedRung


def cascade(mode: Literal["gate", "window"] = "window", window: int = 2, threshold: float = 1.0) -> PlannedCascade:
    return PlannedCascade(
        small=PlannedRung(to="small"),
        large=PlannedRung(to="large"),
        threshold=threshold,
        mode=mode,
        window=window,
        start_on="small",
        may_escalate=True,
        why="default",
    )


def test_window_holds_back_the_last_tokens_and_flushes_at_the_end() -> None:
    machine = CascadeMachine(cascade(), 1)
    assert machine.on_output(0, (1,), " a", (5.0,), False) == ()
    assert machine.on_output(0, (2,), " b", (4.0,), False) == ()
    assert machine.on_output(0, (3,), " c", (5.0,), False) == (Release(0, 1, 1),)
    assert machine.on_output(0, (4,), " d", (5.0,), True) == (Release(0, 4, 4), Accept("confident"))
    assert machine.decided
    assert machine.statistic == 4.0
    assert machine.on_output(0, (5,), " e", (0.0,), True) == ()


def test_the_first_low_margin_escalates_after_what_was_released() -> None:
    machine = CascadeMachine(cascade(), 1)
    for token in (1, 2, 3, 4):
        machine.on_output(0, (token,), " x", (5.0,), False)
    assert machine.on_output(0, (5,), " x", (0.99,), False) == (Escalate((2,), "low_margin"),)
    assert machine.decided
    assert machine.statistic == 0.99


def test_a_margin_at_the_threshold_is_enough_and_a_nan_is_not() -> None:
    assert CascadeMachine(cascade(), 1).on_output(0, (1,), " x", (1.0,), False) == ()
    assert CascadeMachine(cascade(), 1).on_output(0, (1,), " x", (math.nan,), False) == (Escalate((0,), "low_margin"),)


def test_a_low_margin_at_the_last_token_escalates() -> None:
    assert CascadeMachine(cascade(), 1).on_output(0, (1,), " x", (0.0,), True) == (Escalate((0,), "low_margin"),)


def test_an_output_without_tokens_only_flushes() -> None:
    machine = CascadeMachine(cascade(), 1)
    machine.on_output(0, (1,), "", (2.0,), False)
    assert machine.on_output(0, (), " x", (), True) == (Release(0, 1, 2), Accept("confident"))


def test_text_is_not_split_within_a_character() -> None:
    """The first token of an incomplete character is released together with the one that completes it."""
    machine = CascadeMachine(cascade(), 1)
    assert machine.on_output(0, (1,), " a", (5.0,), False) == ()
    assert machine.on_output(0, (2,), "", (5.0,), False) == ()
    assert machine.on_output(0, (3,), " é", (5.0,), False) == (Release(0, 1, 1),)
    assert machine.on_output(0, (4,), " b", (5.0,), False) == ()
    assert machine.on_output(0, (5,), " c", (5.0,), False) == (Release(0, 3, 3),)


def test_outputs_of_several_tokens_are_released_whole() -> None:
    machine = CascadeMachine(cascade(window=2), 1)
    assert machine.on_output(0, (1, 2, 3), " abc", (5.0, 5.0, 5.0), False) == ()
    assert machine.on_output(0, (4,), " d", (5.0,), False) == ()
    assert machine.on_output(0, (5, 6), " ef", (5.0, 5.0), False) == (Release(0, 4, 2),)


def test_gate_releases_nothing_before_the_end() -> None:
    machine = CascadeMachine(cascade("gate"), 1)
    for token in range(9):
        assert machine.on_output(0, (token,), " x", (5.0,), False) == ()
    assert machine.on_output(0, (9,), " x", (5.0,), True) == (Release(0, 10, 10), Accept("confident"))


def test_several_choices_are_a_gate_over_all() -> None:
    machine = CascadeMachine(cascade(window=1), 2)
    assert machine.mode == "gate"
    assert machine.on_output(0, (1, 2), " ab", (5.0, 5.0), True) == ()
    assert machine.on_output(1, (1,), " a", (5.0,), False) == ()
    assert machine.on_output(1, (2,), " a", (5.0,), True) == (Release(0, 2, 1), Release(1, 2, 2), Accept("confident"))
    other = CascadeMachine(cascade(window=1), 2)
    other.on_output(0, (1, 2), " ab", (5.0, 5.0), True)
    assert other.on_output(1, (1,), " a", (0.5,), False) == (Escalate((0, 0), "low_margin"),)


def test_an_answer_has_at_least_one_choice() -> None:
    with pytest.raises(ValueError, match="at least one choice"):
        CascadeMachine(cascade(), 0)


OUTPUTS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.lists(st.integers(0, 9), max_size=3),
        st.sampled_from(["", " x", " yz", "x", " {", "}"]),
        st.sampled_from([0.5, 1.0, 1.5, 3.0, 3.0, 3.0, 3.0, math.nan]),
        st.sampled_from([False, False, False, False, True]),
    ),
    max_size=30,
)


def may_end_at(texts: list[str]) -> list[int]:
    """Numbers of outputs after which the text may be split."""
    spans, numbers, last = TextSpans(), [], 0
    for number, text in enumerate(texts, 1):
        if text:
            if spans.may_split_before(text):
                numbers.append(last)
            spans.feed(text)
            last = number
    return numbers


@settings(max_examples=200, deadline=None)
@given(mode=st.sampled_from(["gate", "window"]), window=st.integers(1, 5), choices=st.integers(1, 3), outputs=OUTPUTS)
def test_what_is_released_was_safe_to_release(
    mode: Literal["gate", "window"],
    window: int,
    choices: int,
    outputs: list[tuple[int, list[int], str, float, bool]],
) -> None:
    threshold = 1.0
    machine = CascadeMachine(cascade(mode, window, threshold), choices)
    ends: list[list[int]] = [[0] for _ in range(choices)]
    margins: list[list[float]] = [[] for _ in range(choices)]
    texts: list[list[str]] = [[] for _ in range(choices)]
    finished = [False] * choices
    released = [(0, 0)] * choices
    verdicts: list[CascadeEffect] = []
    for index, token_ids, text, margin, finish in outputs:
        if index >= choices or (finish and not token_ids and not text):
            continue
        counted = not finished[index] and not verdicts
        if counted:
            ends[index].append(ends[index][-1] + len(token_ids))
            margins[index] += [margin] * len(token_ids)
            texts[index].append(text)
            finished[index] = finish
        effects = machine.on_output(index, tuple(token_ids), text, (margin,) * len(token_ids), finish)
        machine.check_integrity()
        if not counted:
            assert effects == ()
            continue
        accepted = any(isinstance(effect, Accept) for effect in effects)
        for effect in effects:
            assert not verdicts, "nothing follows the verdict"
            match effect:
                case Release(at, upto, count):
                    assert upto >= released[at][0], "released text is never taken back"
                    assert count > released[at][1]
                    assert upto == ends[at][count], "whole outputs only"
                    if not accepted:
                        assert mode == "window"
                        assert choices == 1
                        assert texts[at][count - 1], "no cut inside lagging text"
                        later = margins[at][upto:]
                        assert len(later) >= window
                        assert all(found >= threshold for found in margins[at])
                    released[at] = (upto, count)
                case Escalate(counts, why):
                    assert counts == tuple(upto for upto, _ in released)
                    assert why == "low_margin"
                    assert not (margin >= threshold)
                    verdicts.append(effect)
                case Accept():
                    assert all(finished)
                    assert [upto for upto, _ in released] == [end[-1] for end in ends]
                    assert all(found >= threshold for row in margins for found in row)
                    verdicts.append(effect)
        assert machine.decided == bool(verdicts)
        if token_ids and not margin >= threshold:
            assert isinstance(verdicts[-1], Escalate)
        if all(finished):
            assert verdicts
        if mode == "window" and choices == 1 and not verdicts:
            # Nothing that may be released is held back.
            safe = [ends[0][k] for k in may_end_at(texts[0]) if ends[0][k] <= ends[0][-1] - window]
            assert released[0][0] == max([*safe, 0])


@pytest.mark.parametrize("atomic", [(), ("json",), ("tool_calls",)])
def test_after_a_tool_call_begins_nothing_is_released_before_the_decision(atomic: tuple[Atomic, ...]) -> None:
    machine = CascadeMachine(msgspec.structs.replace(cascade(window=1), atomic=atomic), 1)
    machine.on_output(0, (1,), " a", (5.0,), False)
    assert machine.on_output(0, (2,), " b", (5.0,), False) == (Release(0, 1, 1),)
    held = atomic == ("tool_calls",)
    assert machine.on_output(0, (3,), " c", (5.0,), False, opens_call=True) == (() if held else (Release(0, 2, 2),))
    assert machine.on_output(0, (4,), " d", (5.0,), False) == (() if held else (Release(0, 3, 3),))
    assert machine.on_output(0, (5,), " e", (0.1,), False) == (Escalate((1 if held else 3,), "low_margin"),)


def test_a_statistic_that_may_rise_decides_at_the_end_and_is_always_gate() -> None:
    machine = CascadeMachine(msgspec.structs.replace(cascade("window"), statistic="low_quantile"), 1)
    assert machine.mode == "gate"
    assert machine.on_output(0, (1,), " a", (0.1,), False) == ()
    for token in range(20):
        assert machine.on_output(0, (token,), " x", (9.0,), False) == ()
    assert machine.on_output(0, (), "", (), True) == (Release(0, 21, 22), Accept("confident"))
    other = CascadeMachine(msgspec.structs.replace(cascade(), statistic="low_quantile"), 1)
    assert other.on_output(0, (1, 2), " ab", (0.1, 9.0), True) == (Escalate((0,), "low_margin"),)


def test_many_uncertain_tokens_add_up() -> None:
    machine = CascadeMachine(msgspec.structs.replace(cascade(threshold=1.0), statistic="joint_margin"), 1)
    assert machine.mode == "window"
    assert machine.on_output(0, (1, 2), " ab", (2.0, 2.0), False) == ()
    assert machine.on_output(0, (3,), " c", (2.0,), False) == (Escalate((0,), "low_margin"),)


def test_with_an_infinite_threshold_tokens_forced_by_a_grammar_escalate_too() -> None:
    machine = CascadeMachine(cascade(threshold=math.inf), 1)
    assert machine.on_output(0, (1,), "{", (math.inf,), False) == (Escalate((0,), "low_margin"),)


WRONG_HALVES = [
    ('{"score', '": 4', "}"),
    ("```json", "\n4", "\n```"),
    ("<score>", "4", "</score>"),
    ("[1", ", 2", "]"),
]


@pytest.mark.parametrize("pieces", WRONG_HALVES)
def test_structures_are_not_released_in_part(pieces: tuple[str, ...]) -> None:
    """The large model would continue in the middle of it: {"score": 4, "score": 4}."""
    machine = CascadeMachine(cascade(window=1), 1)
    for token, piece in enumerate(pieces):
        assert machine.on_output(0, (token,), piece, (5.0,), False) == ()
    assert machine.on_output(0, (9,), " doubt", (0.1,), False) == (Escalate((0,), "low_margin"),)
    machine = CascadeMachine(cascade(window=1), 1)
    for token, piece in enumerate(pieces):
        machine.on_output(0, (token,), piece, (5.0,), False)
    assert machine.on_output(0, (8,), " and", (5.0,), False) == (Release(0, 3, 3),)


@pytest.mark.parametrize("mode", ["gate", "window"])
@pytest.mark.parametrize(
    ("holds", "on_failure", "decision"),
    [
        (0.5, "escalate", Accept("judged_good")),
        (0.49, "accept", Escalate((0,), "judged_bad")),
        (None, "accept", Accept("not_judged")),
        (None, "escalate", Escalate((0,), "not_judged")),
    ],
)
def test_a_judge_decides_about_the_whole_answer(
    mode: Literal["gate", "window"],
    holds: float | None,
    on_failure: Literal["escalate", "accept"],
    decision: CascadeEffect,
) -> None:
    judge = JudgeSettings(model="judge", predicate="?", on_failure=on_failure)
    machine = CascadeMachine(msgspec.structs.replace(cascade(mode), judge=judge), 1)
    for token in range(6):
        assert machine.on_output(0, (token,), " x", (5.0,), False) == ()
    assert machine.on_output(0, (6,), " x", (5.0,), True) == (AskJudge(),)
    assert not machine.decided
    effects = machine.judged(holds)
    assert effects == ((Release(0, 7, 7), decision) if isinstance(decision, Accept) else (decision,))
    assert machine.decided


def test_a_low_margin_needs_no_judge() -> None:
    judged = msgspec.structs.replace(cascade("gate"), judge=JudgeSettings(model="judge", predicate="?"))
    assert CascadeMachine(judged, 1).on_output(0, (1,), " x", (0.5,), True) == (Escalate((0,), "low_margin"),)
