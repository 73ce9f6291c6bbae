"""Reservations and refusals, message by message."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.admission.admission import Admission, budget_spent, over_quota
from actors.api.errors import BadKey
from actors.kernel.actor import Mailbox, Reply
from actors.protocol.admission import Reserve, RestoreUsage, Settle, WouldFit
from config.model.tenancy import Budget, TenantSettings, TokenQuota
from policies.admission.budget import BudgetBook, BudgetRefusal, BudgetView, Grant
from policies.admission.quota import QuotaBook, QuotaRefusal, Used

NOON = 1_700_000_000.0
TENANTS = {
    "acme": TenantSettings(tokens=TokenQuota(per_minute=100), budget=Budget(amount=10.0, per="month")),
    "free": TenantSettings(),
}


class AdmissionUnderTest:
    def __init__(self) -> None:
        self.quota, self.budgets = QuotaBook(TENANTS), BudgetBook(TENANTS)
        self.mailbox: Mailbox[Any] = Mailbox("admission", 100)
        self.actor = Admission(self.mailbox, self.quota, self.budgets, restored=set(), wall=lambda: NOON)

    def ask(self, tenant: str = "acme", tokens: int = 10, cost: float = 1.0) -> Reply[Any]:
        reply: Reply[Any] = Reply()
        self.mailbox.put_nowait(Reserve(tenant, tokens, cost, reply))
        return reply

    def held(self) -> tuple[int, int, float, float]:
        """Requests in flight, their tokens, money set aside and money spent."""
        use, money = self.quota.statistics(trio.current_time()).tenants["acme"], self.budgets.view("acme", NOON)
        assert money is not None
        return use.in_flight, use.reserved_tokens, money.reserved, money.spent


@pytest.fixture
async def admission(nursery, autojump_clock) -> AdmissionUnderTest:
    made = AdmissionUnderTest()
    nursery.start_soon(made.actor.run)
    return made


async def test_a_grant_is_held_until_it_is_settled(admission):
    grant = await admission.ask().wait()
    assert isinstance(grant, Grant)
    assert admission.held() == (1, 10, 1.0, 0.0)
    admission.mailbox.put_unbounded(Settle(grant, 4, 0.25))
    await wait_all_tasks_blocked()
    assert admission.held() == (0, 0, 0.0, 0.25)
    # Once is enough.
    admission.mailbox.put_unbounded(Settle(grant, 4, 0.25))
    admission.mailbox.put_unbounded(Settle(grant, None))
    await wait_all_tasks_blocked()
    assert admission.held() == (0, 0, 0.0, 0.25)


async def test_a_grant_that_was_not_used_costs_nothing(admission):
    grant = await admission.ask().wait()
    admission.mailbox.put_unbounded(Settle(grant, None, 0.25))
    await wait_all_tasks_blocked()
    assert admission.held() == (0, 0, 0.0, 0.0)


@pytest.mark.parametrize(("tokens", "cost", "kind"), [(101, 1.0, QuotaRefusal), (10, 10.5, BudgetRefusal)])
async def test_a_refusal_holds_nothing(admission, tokens, cost, kind):
    assert isinstance(await admission.ask(tokens=tokens, cost=cost).wait(), kind)
    assert admission.held() == (0, 0, 0.0, 0.0)
    assert isinstance(await admission.ask(tokens=100, cost=10.0).wait(), Grant)


async def test_whoever_gave_up_waiting_holds_nothing(admission):
    with trio.CancelScope() as scope:
        reply = admission.ask()
        scope.cancel()
        await reply.wait()
    assert scope.cancelled_caught
    await wait_all_tasks_blocked()
    assert admission.held() == (0, 0, 0.0, 0.0)
    assert len(admission.mailbox) == 0


async def test_a_tenant_that_is_gone_meanwhile_has_no_good_key(admission):
    reply = admission.ask(tenant="nobody")
    with trio.fail_after(1), pytest.raises(BadKey) as caught:
        await reply.wait()
    assert caught.value.body.status == 401
    assert "Incorrect API key" in caught.value.body.message
    assert admission.held() == (0, 0, 0.0, 0.0)
    assert isinstance(await admission.ask(tenant="free", cost=1e9).wait(), Grant)


async def test_earlier_usage_is_restored_once_however_often_it_is_handed_over(admission):
    usage = RestoreUsage({"acme": {"hour": 2.0, "day": 2.0, "month": 2.0}}, {}, {"acme": (Used("day", 1.0, 30),)})
    for _ in range(2):
        admission.mailbox.put_unbounded(usage)
    await wait_all_tasks_blocked()
    assert admission.held() == (0, 0, 0.0, 2.0)
    assert admission.quota.statistics(trio.current_time()).tenants["acme"].day_tokens == 30


@pytest.mark.parametrize(
    ("refusal", "code", "retry_after_s"),
    [
        (QuotaRefusal("tokens_per_minute", "tenant acme", 10, 5, 6, 12.5), "tokens_per_minute_exceeded", 12.5),
        (QuotaRefusal("tokens_per_day", "tenant acme", 10, 5, 11, None), "tokens_per_day_exceeded", None),
        (QuotaRefusal("requests_per_minute", "tenant acme", 1, 1, 1, 3.0), "requests_per_minute_exceeded", 3.0),
        # One of them ends when it ends.
        (QuotaRefusal("concurrent", "tenant acme", 1, 1, 1, None), "concurrent_exceeded", 1.0),
    ],
)
def test_what_a_client_reads_of_its_quota(refusal: QuotaRefusal, code: str, retry_after_s: float | None) -> None:
    body = over_quota(refusal).body
    assert (body.status, body.code, body.retry_after_s) == (429, code, retry_after_s)
    assert body.message == str(refusal)
    assert body.should_retry == (retry_after_s is not None)


def test_what_a_client_reads_of_its_budget() -> None:
    refusal = BudgetRefusal("acme", BudgetView(10.0, "day", 4.0, 3.5, 600.0), 3.0)
    body = budget_spent(refusal).body
    assert (body.status, body.code, body.retry_after_s) == (429, "budget_spent", 600.0)
    assert body.message == str(refusal)
    assert "budget of 10 per day of tenant acme" in body.message
    assert "up to 3, and 2.5 is left" in body.message
    assert "renews in 600 s" in body.message


async def test_room_is_asked_for_behind_what_was_sent_before(admission):
    async def would_fit(tokens: int) -> QuotaRefusal | None:
        reply: Reply[QuotaRefusal | None] = Reply()
        admission.mailbox.put_nowait(WouldFit("acme", tokens, reply))
        return await reply.wait()

    grant = await admission.ask(tokens=60).wait()
    assert await would_fit(40) is None
    refused = await would_fit(41)
    assert refused is not None
    assert refused.limit == "tokens_per_minute"
    admission.mailbox.put_deferred(Settle(grant, 10, 0.0))
    assert await would_fit(90) is None
    assert admission.held()[:2] == (0, 0)
