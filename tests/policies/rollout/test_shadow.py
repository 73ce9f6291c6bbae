"""Copies are limited, dropped before requests, and compared when both answers have ended."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from config.model.rollout import ShadowSettings
from config.model.tenancy import TenantSettings, TierSettings
from policies.model.load import BreakerView, EngineLoad, Load
from policies.rollout.shadow import TENANT, TIER, ShadowAnswer, ShadowBook

TRY = ShadowSettings(name="try", route=("all",), to="large", share=1.0, concurrent=2)
IDLE = Load(engines={"large": EngineLoad(name="large", running=9)})


def answer(digest: bytes = b"same", tokens: int = 5, took_s: float = 1.0) -> ShadowAnswer:
    return ShadowAnswer(digest, tokens, took_s)


def test_both_answers_are_compared_in_either_order() -> None:
    book = ShadowBook([TRY])
    assert book.begin("try", "a", "large", IDLE) is None
    assert book.begin("try", "b", "large", IDLE) is None
    book.copy_ended("try", "a", answer(took_s=3.0))
    assert book.views()["try"].compared == 0
    book.original_ended("try", "a", answer(took_s=2.0))
    book.original_ended("try", "b", answer(b"other"))
    book.copy_ended("try", "b", answer())
    view = book.views()["try"]
    assert (view.compared, view.same_text, view.same_length, view.answered, view.running) == (2, 1, 2, 2, 0)
    assert (view.tokens, view.original_tokens, view.seconds, view.original_seconds) == (10, 10, 4.0, 3.0)
    assert not book._pairs


def test_pairs_without_an_answer_are_not_compared() -> None:
    book = ShadowBook([TRY])
    for request, copied, original in (("a", answer(), None), ("b", None, answer())):
        assert book.begin("try", request, "large", IDLE) is None
        book.copy_ended("try", request, copied, cut=copied is None)
        book.original_ended("try", request, original)
    view = book.views()["try"]
    assert (view.compared, view.answered, view.cut, view.failed) == (0, 1, 1, 0)
    assert not book._pairs


def test_no_copy_is_made_where_requests_could_have_to_wait() -> None:
    book = ShadowBook([TRY])
    waits = Load(engines={"large": EngineLoad(name="large", waiting=1)})
    full = Load(engines={"large": EngineLoad(name="large", kv_usage=0.9)})
    down = Load(engines={"large": EngineLoad(name="large", healthy=False)})
    broken = Load(breakers={"large": BreakerView("open", 1)})
    assert book.begin("try", "a", "large", waits) == "rung_busy"
    assert book.begin("try", "a", "large", full) == "rung_busy"
    assert book.begin("try", "a", "large", down) == "rung_down"
    assert book.begin("try", "a", "large", broken) == "rung_down"
    assert book.begin("other", "a", "large", IDLE) == "gone"
    book.closed = True
    assert book.begin("try", "a", "large", IDLE) == "shutting_down"
    assert book.views()["try"].dropped == {"rung_busy": 2, "rung_down": 2, "shutting_down": 1}
    assert not book._pairs


def test_copies_have_a_tier_below_all_others_only_while_there_may_be_some() -> None:
    tiers, tenants = {"high": TierSettings(priority=-3), "low": TierSettings(priority=-7)}, {"a": TenantSettings()}
    book = ShadowBook([TRY])
    with_copies, who = book.with_copies(tiers, tenants)
    assert with_copies[TIER].priority == -8
    assert who[TENANT].tier == TIER
    assert book.begin("try", "a", "large", IDLE) is None
    book.apply_settings([])
    assert TIER in book.with_copies(tiers, tenants)[0]
    book.copy_ended("try", "a", None)
    assert book.with_copies(tiers, tenants) == (tiers, tenants)


def test_a_shadow_that_is_removed_and_added_again_keeps_the_figures_of_its_open_pairs() -> None:
    book = ShadowBook([TRY])
    assert book.begin("try", "a", "large", IDLE) is None
    book.copy_ended("try", "a", answer())
    book.apply_settings([])
    book.apply_settings([TRY])
    book.original_ended("try", "a", answer())
    view = book.views()["try"]
    assert (view.answered, view.compared) == (1, 1)


class ShadowMachine(RuleBasedStateMachine):
    """In any order of endings, with any changes of the settings in between."""

    @initialize()
    def make(self) -> None:
        self.book = ShadowBook([TRY])
        self.copies: list[str] = []
        self.originals: list[str] = []
        self.number = 0
        self.configured = True

    @rule()
    def begin(self) -> None:
        self.number += 1
        made = self.book.begin("try", str(self.number), "large", IDLE)
        assert (made is None) == (self.configured and len(self.copies) < TRY.concurrent)
        if made is None:
            self.copies.append(str(self.number))
            self.originals.append(str(self.number))

    @rule(data=st.data(), good=st.booleans())
    def end_copy(self, data: st.DataObject, good: bool) -> None:
        if self.copies:
            request = self.copies.pop(data.draw(st.integers(0, len(self.copies) - 1)))
            self.book.copy_ended("try", request, answer() if good else None)

    @rule(data=st.data(), good=st.booleans())
    def end_original(self, data: st.DataObject, good: bool) -> None:
        if self.originals:
            request = self.originals.pop(data.draw(st.integers(0, len(self.originals) - 1)))
            self.book.original_ended("try", request, answer() if good else None)

    @rule(configured=st.booleans())
    def apply_settings(self, configured: bool) -> None:
        self.configured = configured
        self.book.apply_settings([TRY] if configured else [])

    @invariant()
    def nothing_leaks(self) -> None:
        assert len(self.book._pairs) == len({*self.copies, *self.originals})
        view = self.book.views().get("try")
        assert (view.running if view is not None else 0) == len(self.copies) <= TRY.concurrent
        if view is not None:
            assert view.same_text <= view.compared <= view.answered


TestShadowMachine = ShadowMachine.TestCase
TestShadowMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
