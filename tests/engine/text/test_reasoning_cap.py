"""The closing marker is forced at the cap, whatever was written of it, with drafts and after a new start."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.reasoning import PRESETS, ReasoningMarkers, ReasoningParser
from engine.text.reasoning_cap import CapState, ReasoningCap
from tests.engine.tiny_tokenizers import byte_level_tokenizer, sentencepiece_tokenizer

TOKENIZER = byte_level_tokenizer()
CLOSING = tuple(TOKENIZER.encode_continuation("</think>", marked=True))
LONG = "<think>\n" + "the quick brown fox " * 8
ROOM = len(CLOSING)


def cap(tokens: int, *, opened: bool = False, markers: ReasoningMarkers = PRESETS["think"]) -> ReasoningCap:
    closing = tuple(TOKENIZER.encode_continuation(markers.close, marked=True))
    return ReasoningCap(tokens, markers, closing, opened)


def written(said: str, limit: ReasoningCap, *, start: int = 0, most: int = 60) -> list[int]:
    """What becomes of a model that wants to say this, by a state that is made anew after `start` tokens."""
    wanted = TOKENIZER.encode(said)
    state = CapState(limit, TOKENIZER.token_bytes)
    output: list[int] = []
    while len(output) < min(len(wanted), most):
        if len(output) == start:
            state = CapState(limit, TOKENIZER.token_bytes)
            state.advance(output)
        forced = state.forced(output)
        if forced is not None:
            assert state.may_force(len(output))
        output.append(wanted[len(output)] if forced is None else forced)
        state.advance(output[-1:])
    return output


def text(ids: list[int]) -> str:
    return TOKENIZER.decode(ids)


def reasoning_tokens(ids: list[int]) -> int:
    parser = ReasoningParser(PRESETS["think"], opened=False)
    for count, token in enumerate(ids):
        if parser.in_content:
            return count
        parser.push(TOKENIZER.decode([token]))
    return len(ids)


@pytest.mark.parametrize("tokens", [ROOM + 1, ROOM + 3, 30])
def test_the_reasoning_has_at_most_so_many_tokens_and_then_its_marker(tokens: int) -> None:
    output = written(LONG, cap(tokens))
    assert tuple(output[tokens - ROOM : tokens]) == CLOSING
    assert reasoning_tokens(output) == tokens
    assert output[tokens:] == TOKENIZER.encode(LONG)[tokens : len(output)], "and then the model goes on"
    assert text(output).count("</think>") == 1


@pytest.mark.parametrize(
    "said", ["<think>\nA.</think> the quick brown fox jumps over", "the quick brown fox </think>", "<thin air> fox fox"]
)
def test_nothing_is_forced_where_the_block_is_closed_or_there_is_none(said: str) -> None:
    assert written(said, cap(ROOM + 8)) == TOKENIZER.encode(said)


def test_a_block_that_the_prompt_has_opened() -> None:
    said = LONG.removeprefix("<think>\n")
    output = written(said, cap(20, opened=True))
    assert tuple(output[20 - ROOM : 20]) == CLOSING
    assert written(said, cap(20)) == TOKENIZER.encode(said)[:60]


@pytest.mark.parametrize("begun", range(1, ROOM))
def test_a_marker_that_the_model_has_begun_is_completed(begun: int) -> None:
    limit = cap(20, opened=True)
    state = CapState(limit, TOKENIZER.token_bytes)
    before = [*TOKENIZER.encode("the quick brown fox jumps over " * 3)[: 20 - ROOM - begun], *CLOSING[:begun]]
    state.advance(before)
    assert len(before) == limit.forced_from
    rest = []
    while (forced := state.forced([*before, *rest])) is not None:
        rest.append(forced)
        state.advance([forced])
    assert tuple(rest) == CLOSING[begun:]
    assert state.over


def test_a_cap_below_the_marker_counts_as_the_marker_and_one_more() -> None:
    output = written("the quick brown fox jumps over the lazy dog", cap(1, opened=True))
    assert tuple(output[1 : 1 + ROOM]) == CLOSING


@given(
    said=st.lists(
        st.sampled_from(["<think>", "\n", "</think>", "</", "th", "ink>", "fox ", " ", "<", "ü"]), max_size=20
    ),
    tokens=st.integers(1, 40),
    opened=st.booleans(),
    start=st.integers(0, 60),
)
def test_a_new_start_changes_nothing(said: list[str], tokens: int, opened: bool, start: int) -> None:
    limit, wanted = cap(tokens, opened=opened), "".join(said)
    assert written(wanted, limit, start=start) == written(wanted, limit)


@given(
    ids=st.lists(st.sampled_from([*CLOSING, *TOKENIZER.encode("<think> fox\n")]), max_size=40),
    consumed=st.integers(0, 40),
    tokens=st.integers(1, 40),
    opened=st.booleans(),
)
def test_drafts_are_judged_as_if_they_were_consumed(ids: list[int], consumed: int, tokens: int, opened: bool) -> None:
    ahead, behind = (CapState(cap(tokens, opened=opened), TOKENIZER.token_bytes) for _ in range(2))
    ahead.advance(ids)
    behind.advance(ids[:consumed])
    for _ in range(2):
        assert behind.forced(ids) == ahead.forced(ids), "and looking changes nothing"
    if behind.forced(ids) is not None:
        assert behind.may_force(len(ids))


def test_words_with_a_space_before_them() -> None:
    tokenizer = sentencepiece_tokenizer()
    closing = tuple(tokenizer.encode_continuation("</think>", marked=True))
    assert b"".join(map(tokenizer.token_bytes, closing)) == b"</think>"
    state = CapState(ReasoningCap(len(closing) + 2, PRESETS["think"], closing, True), tokenizer.token_bytes)
    output = tokenizer.encode("the the the", add_special_tokens=False)[:2]
    state.advance(output)
    for token in closing:
        assert state.forced(output) == token
        output.append(token)
        state.advance([token])
    assert state.over
