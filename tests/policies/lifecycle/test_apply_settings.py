"""What outlives a change of the policy: what waits, what was used, what a breaker knows."""

import math

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from config.model.routing import BreakerSettings, RetryBudgetSettings
from config.model.table import Seconds
from config.model.tenancy import QueueLimits, TenantSettings, TierSettings, TokenQuota
from policies.admission.quota import QuotaBook, QuotaRefusal, Reservation
from policies.errors import UnknownTenant
from policies.fallback.breaker import Breaker
from policies.fallback.retry_budget import RetryBudget as Budget
from policies.model.load import Permit
from policies.queueing.fair_queue import FairQueue
from policies.queueing.queue_item import Accepted, QueueFull, QueueItem, TierUse
from policies.routing.busy import Hysteresis


def item(number: int, tenant: str) -> QueueItem:
    return QueueItem(job_id=number, tenant=tenant, prompt_tokens=10, tokens=10)


def taken(line: FairQueue[QueueItem], now: float = 1.0) -> list[str | int]:
    found = []
    while (each := line.take(now)) is not None:
        found.append(each.job_id)
    return found


def test_what_waits_moves_with_its_tenant_into_another_tier() -> None:
    tiers = {"high": TierSettings(priority=2), "low": TierSettings(priority=1)}
    line = FairQueue(tiers, {"a": TenantSettings(tier="low"), "b": TenantSettings(tier="high")})
    for number, tenant in enumerate("aabb"):
        size = {"tokens": 10 + number, "bytes": 100 + number}
        line.offer(msgspec.structs.replace(item(number, tenant), **size), 0.0)
    before = line.statistics()
    line.apply_settings(tiers, {"a": TenantSettings(tier="high"), "b": TenantSettings(tier="low")})
    line.check_integrity()
    assert line.statistics().tiers == {"high": before.tiers["low"], "low": before.tiers["high"]}
    assert before.tiers["low"] == TierUse(requests=2, tokens=21, bytes=201)
    assert taken(line) == [0, 1, 2, 3]


def test_a_tier_that_is_gone_serves_what_waits_in_it_and_is_forgotten() -> None:
    tenants = {"a": TenantSettings(tier="old"), "b": TenantSettings(tier="new")}
    line = FairQueue({"old": TierSettings(priority=9), "new": TierSettings()}, tenants)
    line.offer(item(1, "b"), 0.0)
    line.offer(item(2, "a"), 0.0)
    line.apply_settings({"new": TierSettings()}, tenants)
    assert isinstance(line.offer(item(3, "a"), 0.0), Accepted)
    assert taken(line) == [2, 3, 1]
    line.apply_settings({"new": TierSettings()}, {"b": TenantSettings(tier="new")})
    assert set(line.statistics().tiers) == {"new"}
    line.check_integrity()


def test_a_tenant_may_go_and_come_back_with_the_same_counter() -> None:
    both = {"a": TenantSettings(), "b": TenantSettings()}
    line = FairQueue({"default": TierSettings()}, both)
    line.offer(item(1, "a"), 0.0)
    # It lies in its tier's heap although it no longer waits: two of its kind must not meet there.
    line.remove(1)
    line.apply_settings({"default": TierSettings()}, {"b": TenantSettings()})
    line.apply_settings({"default": TierSettings()}, both)
    line.offer(item(2, "a"), 0.0)
    line.offer(item(3, "b"), 0.0)
    assert sorted(taken(line), key=int) == [2, 3]


def test_smaller_bounds_hold_for_those_who_come() -> None:
    tenants = {"a": TenantSettings()}
    line = FairQueue({"default": TierSettings()}, tenants)
    for number in range(3):
        line.offer(item(number, "a"), 0.0)
    line.apply_settings({"default": TierSettings(queue=QueueLimits(requests=2, wait=Seconds(1)))}, tenants)
    assert isinstance(line.offer(item(9, "a"), 0.0), QueueFull)
    assert line.expire(2.0) == []
    assert taken(line, 2.0) == [0, 1, 2]


_TIERS = (
    {"high": TierSettings(priority=2), "low": TierSettings(priority=1)},
    {"low": TierSettings(priority=3), "other": TierSettings(priority=1)},
    {"high": TierSettings(priority=1, queue=QueueLimits(requests=3)), "other": TierSettings(priority=5)},
)


class AdoptMachine(RuleBasedStateMachine):
    """Tenants change tiers, tiers come and go; nothing that waits is lost, and the highest tier goes first."""

    @initialize()
    def make(self) -> None:
        self.tiers: dict[str, TierSettings] = dict(_TIERS[0])
        self.last = dict(self.tiers)
        """Of each tier, its last settings: those that are gone keep them."""
        self.tenants = {"a": TenantSettings(tier="high"), "b": TenantSettings(tier="low")}
        self.line: FairQueue[QueueItem] = FairQueue(self.tiers, self.tenants)
        self.waiting: dict[int, str] = {}
        self.number = 0

    @rule(which=st.integers(0, 2), data=st.data())
    def apply_settings(self, which: int, data: st.DataObject) -> None:
        self.tiers = _TIERS[which]
        self.last |= self.tiers
        named = {
            name: TenantSettings(tier=data.draw(st.sampled_from(sorted(self.tiers))))
            for name in data.draw(st.sets(st.sampled_from("abc")))
        }
        # Who is gone but waits keeps what was last said of it, as the quota book has it.
        gone = {name: self.tenants[name] for name in set(self.waiting.values()) - set(named)}
        self.tenants = {**gone, **named}
        self.line.apply_settings(self.tiers, self.tenants)

    @rule(tenant=st.sampled_from("abc"))
    def offer(self, tenant: str) -> None:
        self.number += 1
        if tenant not in self.tenants:
            with pytest.raises(UnknownTenant):
                self.line.offer(item(self.number, tenant), 0.0)
        elif isinstance(self.line.offer(item(self.number, tenant), 0.0), Accepted):
            self.waiting[self.number] = tenant

    @rule()
    def take(self) -> None:
        found = self.line.take(0.0)
        if found is None:
            assert not self.waiting
            return
        ranks = {tenant: self.last[self.tenants[tenant].tier].priority for tenant in self.waiting.values()}
        assert ranks[found.tenant] == max(ranks.values())
        del self.waiting[int(found.job_id)]

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.waiting:
            number = data.draw(st.sampled_from(sorted(self.waiting)))
            assert self.line.remove(number) is not None
            del self.waiting[number]

    @rule(tenant=st.sampled_from("abc"), tokens=st.integers(0, 30))
    def charge(self, tenant: str, tokens: int) -> None:
        self.line.charge(tenant, tokens)

    @invariant()
    def adds_up(self) -> None:
        self.line.check_integrity()

    def teardown(self) -> None:
        assert sorted(taken(self.line, 0.0), key=int) == sorted(self.waiting)


TestAdoptMachine = AdoptMachine.TestCase
TestAdoptMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def limited(per_minute: int) -> TenantSettings:
    return TenantSettings(tokens=TokenQuota(per_minute=per_minute))


def test_other_limits_count_what_was_used_before() -> None:
    quota = QuotaBook({"acme": limited(100)})
    first = quota.reserve("acme", 80, 0.0)
    assert isinstance(first, Reservation)
    quota.settle(first, 80)
    quota.apply_settings({"acme": limited(90)}, 1.0)
    refusal = quota.reserve("acme", 20, 1.0)
    assert isinstance(refusal, QuotaRefusal)
    assert (refusal.used, refusal.limit_value) == (80, 90)


def test_a_tenant_that_is_gone_ends_what_it_began_and_does_not_begin_anew() -> None:
    quota = QuotaBook({"acme": limited(100)})
    first = quota.reserve("acme", 80, 0.0)
    assert isinstance(first, Reservation)
    assert set(quota.apply_settings({"other": TenantSettings()}, 1.0)) == {"other", "acme"}
    assert quota.settle(first, 60)
    quota.check_integrity()
    assert quota.apply_settings({"acme": limited(100)}, 3.0)["acme"] == limited(100)
    assert isinstance(quota.reserve("acme", 50, 3.0), QuotaRefusal)


def test_a_tenant_that_is_gone_is_forgotten_when_its_windows_are_empty() -> None:
    quota = QuotaBook({"acme": limited(100), "idle": limited(1)})
    first = quota.reserve("acme", 80, 0.0)
    assert isinstance(first, Reservation)
    quota.settle(first, 80)
    assert set(quota.apply_settings({}, 1.0)) == {"acme"}
    assert quota.apply_settings({}, 100_000.0) == {}


def test_a_breaker_keeps_its_state_and_its_counts() -> None:
    breaker = Breaker(BreakerSettings(at_least=4, failure_rate=0.5, open=Seconds(5)))
    for _ in range(3):
        breaker.record(Permit(0), False, 0.0)
    breaker.apply_settings(BreakerSettings(at_least=3, failure_rate=0.5, open=Seconds(50)))
    assert breaker.state == "closed"
    breaker.record(Permit(0), False, 0.1)
    assert breaker.state == "open"
    breaker.apply_settings(BreakerSettings(open=Seconds(1)))
    assert breaker.state == "open"
    assert breaker.view(1.0).opens_for_s == pytest.approx(49.1)
    breaker.check_integrity()


def test_fewer_probes_begin_anew() -> None:
    breaker = Breaker(BreakerSettings(at_least=1, probes=3, open=Seconds(1)))
    breaker.record(Permit(0), False, 0.0)
    probes = [breaker.permit(2.0), breaker.permit(2.0)]
    assert all(isinstance(each, Permit) for each in probes)
    breaker.apply_settings(BreakerSettings(at_least=1, probes=1, open=Seconds(1)))
    breaker.check_integrity()
    assert isinstance(probes[0], Permit)
    breaker.record(probes[0], True, 2.1)
    assert breaker.state == "half_open"
    probe = breaker.permit(2.2)
    assert isinstance(probe, Permit)
    breaker.record(probe, True, 2.3)
    assert breaker.state == "closed"


def test_retries_that_run_count_under_new_settings() -> None:
    budget = Budget(RetryBudgetSettings(share=0.0, at_least=2), active=lambda: 0)
    assert [budget.take() for _ in range(3)] == [True, True, False]
    budget.apply_settings(RetryBudgetSettings(share=0.0, at_least=1))
    budget.give_back()
    assert not budget.take()
    budget.give_back()
    assert budget.take()
    budget.check_integrity()


def test_a_switch_that_is_on_stays_on_until_the_new_bounds_release_it() -> None:
    switch = Hysteresis(0.8, 0.5, 10.0)
    assert switch.update(0.9, 0.0)
    switch.apply_settings(0.95, 0.7, 0.0)
    assert switch.update(0.75, 1.0)
    assert not switch.update(0.6, 2.0)
    with pytest.raises(ValueError, match="must not be above"):
        switch.apply_settings(0.5, math.inf, 0.0)
