"""Drafting for mode "verified": when drafts are made, how long they are, and when drafting ends."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from policies.cascade.verified import Draft, ExpectDraft, VerifiedMachine, draft_deadline, max_drafted_tokens

MAX_DRAFT, OFF_ABOVE = 16, 4


def machine(max_tokens: int = 200, draft_tokens: int = MAX_DRAFT) -> VerifiedMachine:
    return VerifiedMachine(draft_tokens=draft_tokens, off_above_batch=OFF_ABOVE, max_tokens=max_tokens)


class AnyOrder(RuleBasedStateMachine):
    """A small engine that drafts and a large one that generates, with events in any order."""

    def __init__(self) -> None:
        super().__init__()
        rng = Random(7)
        self.text = [rng.randrange(3) for _ in range(80)]
        self.machine = machine(max_tokens=len(self.text))
        self.output_tokens = 0
        self.draft: Draft | None = self.machine.begin(1)
        self.base = self.drafted = 0
        self.given: list[int] = []
        """The part of the draft that the machine has not seen verified yet."""
        self.agreed = 0

    @precondition(lambda self: self.draft is not None and self.drafted < self.draft.tokens)
    @rule(right=st.integers(0, 4), more=st.integers(1, 6))
    def the_small_one_drafts(self, right: int, more: int) -> None:
        for _ in range(min(more, self.draft.tokens - self.drafted)):
            place = self.base + self.drafted
            token = self.text[place] if right and place < len(self.text) else 9
            self.machine.on_draft([token])
            self.drafted += 1

    @precondition(lambda self: self.draft is not None)
    @rule(trouble=st.sampled_from(["", "", "", "", "draft_failed"]))
    def the_draft_ends(self, trouble: str) -> None:
        effect = self.machine.on_draft_end(trouble)
        assert not self.machine.drafting
        assert not trouble or self.machine.alone
        if effect is not None:
            assert isinstance(effect, ExpectDraft)
            assert effect.after == self.output_tokens
            assert 0 < len(effect.token_ids) <= self.drafted - (self.output_tokens - self.base)
            assert self.output_tokens + len(effect.token_ids) < len(self.text)
            self.given = list(effect.token_ids)
        self.draft = None

    @rule(count=st.integers(1, 9), batch=st.integers(1, OFF_ABOVE + 1))
    def the_large_one_generates(self, count: int, batch: int) -> None:
        generated = self.text[self.output_tokens : self.output_tokens + count]
        if not generated:
            return
        for token in generated:
            right = bool(self.given) and self.given[0] == token
            self.given = self.given[1:] if right else []
            self.agreed += right
        drafting, alone = self.machine.drafting, self.machine.alone
        effect = self.machine.on_output(generated, batch)
        self.output_tokens += len(generated)
        if effect is not None:
            assert not drafting
            assert not alone
            assert not self.given
            assert batch <= OFF_ABOVE
            assert 0 < effect.tokens <= MAX_DRAFT
            assert self.output_tokens + effect.tokens < len(self.text)
            self.draft, self.base, self.drafted = effect, self.output_tokens, 0

    @invariant()
    def counts_agree(self) -> None:
        self.machine.check_integrity()
        assert self.machine.accepted == self.agreed
        assert self.machine.drafting == (self.draft is not None)


TestAnyOrder = AnyOrder.TestCase


def answer(text: list[int], wrong: set[int], *, tokens_meanwhile: int = 0) -> tuple[VerifiedMachine, int]:
    """Run a whole answer; the large model generates `tokens_meanwhile` during a draft. Returns the number of steps."""
    it = machine(max_tokens=len(text) + 1)
    output_tokens = steps = 0
    draft = it.begin(1)
    while output_tokens < len(text):
        if draft is not None:
            base = output_tokens
            it.on_draft([9 if place in wrong else text[place] for place in range(base, min(base + draft.tokens, 200))])
            for _ in range(tokens_meanwhile if base else 0):
                if output_tokens < len(text):
                    assert it.on_output([text[output_tokens]], 1) is None
                    output_tokens, steps = output_tokens + 1, steps + 1
        effect = it.on_draft_end() if draft is not None else None
        if output_tokens == len(text):
            break
        taken = 1
        if effect is not None:
            while taken <= len(effect.token_ids) and effect.token_ids[taken - 1] == text[output_tokens + taken - 1]:
                taken += 1
        taken = min(taken, len(text) - output_tokens)
        draft = it.on_output(text[output_tokens : output_tokens + taken], 1)
        output_tokens, steps = output_tokens + taken, steps + 1
        it.check_integrity()
    return it, steps


TEXT = [place % 7 for place in range(200)]


def test_good_drafts_save_nearly_all_steps():
    it, steps = answer(TEXT, set())
    assert it.why == "verified"
    assert steps == 12
    assert it.accepted == 200 - steps + 1, "the last draft is the whole rest"


def test_bad_drafts_cost_two_rounds():
    it, steps = answer(TEXT, set(range(200)))
    assert (it.rounds, it.accepted, it.alone, steps) == (2, 0, True, 200)
    assert it.drafted <= MAX_DRAFT + 4


def test_the_length_follows_what_is_accepted():
    it = machine()
    assert it.begin(1) == Draft(16)
    it.on_draft([1, 2, 3, 4, 5, 6])
    assert it.on_draft_end() == ExpectDraft(0, (1, 2, 3, 4, 5, 6))
    assert it.on_output([1, 2, 3, 0], 1) == Draft(6)
    it.on_draft([5] * 6)
    assert it.on_draft_end() == ExpectDraft(4, (5,) * 6)
    assert it.on_output([5] * 6 + [1], 1) == Draft(12)
    it.on_draft([4] * 12)
    it.on_draft_end()
    assert it.on_output([0], 1) == Draft(4)


def test_late_drafts_end_drafting():
    it, steps = answer(TEXT, set(), tokens_meanwhile=20)
    assert (it.rounds, it.alone) == (1, True)
    assert it.accepted == 16
    assert steps == 200 - 16


def test_tokens_generated_meanwhile_shorten_the_draft():
    it = machine()
    it.begin(1)
    it.on_draft_end()
    assert it.on_output([1], 1) == Draft(4)
    it.on_draft([2, 3, 4, 5])
    assert it.on_output([2, 3], 1) is None
    assert it.on_draft_end() == ExpectDraft(3, (4, 5))


@pytest.mark.parametrize(
    ("max_tokens", "batch", "why"), [(5, 1, "nothing_drafted"), (4, 1, "too_short"), (99, OFF_ABOVE + 1, "large_busy")]
)
def test_when_drafting_begins(max_tokens, batch, why):
    it = machine(max_tokens)
    assert (it.begin(batch) is not None) == (why == "nothing_drafted")
    assert it.why == why


def test_short_drafts_can_be_configured():
    assert machine(draft_tokens=1).begin(1) == Draft(1)


@given(st.floats(0, 1e6), st.floats(-1e6, 1e6))
def test_a_draft_never_outlives_the_deadline(now, ahead):
    assert now <= draft_deadline(now, now + ahead) <= max(now, now + ahead)


@given(st.integers(1, 120), st.integers(1, 64), st.data())
def test_drafted_tokens_are_within_the_bound(max_tokens, draft_tokens, data):
    it = VerifiedMachine(draft_tokens=draft_tokens, off_above_batch=9, max_tokens=max_tokens)
    output_tokens = made = 0
    draft = it.begin(1)
    while output_tokens < max_tokens:
        if draft is not None:
            made += draft.tokens
            right = data.draw(st.integers(0, draft.tokens))
            it.on_draft([1] * right + [0] * (draft.tokens - right))
            meanwhile = min(data.draw(st.integers(0, 3)), max_tokens - output_tokens)
            output_tokens += meanwhile
            draft = it.on_output([1] * meanwhile, 1) if meanwhile else None
            assert draft is None, "one draft at a time"
            it.on_draft_end()
        count = min(data.draw(st.integers(1, 70)), max_tokens - output_tokens)
        output_tokens += count
        draft = it.on_output([1] * count, 1)
    assert made <= max_drafted_tokens(max_tokens, draft_tokens)
