"""Retries are paid out of the budget that all share; without it the next rung is asked."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.breakers.breakers import BreakerMessage, BreakerRegistry, Permits
from actors.kernel.actor import Mailbox
from config.model.routing import BreakerSettings, RetryBudgetSettings
from config.model.table import Seconds
from policies.fallback.fallback_machine import RungRefused
from policies.fallback.retry_budget import RetryBudget
from policies.model.load import Permit
from tests.actors.fakes import Answer
from tests.actors.upstream.network import Asked
from tests.actors.upstream.test_upstream_actor import CHAT, FINE, config, outcomes, stage

FIVE_RETRIES = config().replace(
    '[[ladders.cloud-first]]\nto = "cloud"\nttft = "5s"',
    '[[ladders.cloud-first]]\nto = "cloud"\nretries = 5\nbreaker = { at_least = 1000 }',
)


async def always_fails(asked: Asked) -> None:
    await asked.status(500)


def tries(answer: Answer) -> int:
    """Of the upstream; then the budget was empty and the small model answered."""
    *failed, refused, answered = outcomes(answer)
    assert set(failed) == {("cloud", "failed", "upstream_error")}
    assert (refused, answered) == (("cloud", "refused", "retry_budget"), ("small", "answered", "retry_budget"))
    return len(failed)


# Each first attempt, on the upstream and on the small model, pays `ratio`; three retries are there at first.
@pytest.mark.parametrize(("ratio", "expected"), [(0.0, [1, 1, 1]), (0.5, [4, 2, 2]), (1.0, [5, 3, 3])])
async def test_requests_pay_for_retries(autojump_clock, ratio, expected):
    text = f"{FIVE_RETRIES}\n[retry_budget]\nratio = {ratio}\nmin_per_second = 0.0\n"
    async with stage(always_fails, FINE, text=text) as (service, network):
        counted = [tries(await service.ask("cloud", prompts=CHAT)) for _ in expected]
        assert counted == expected
        assert len(network.asked) == sum(expected)


async def test_time_pays_for_retries(autojump_clock):
    text = f"{FIVE_RETRIES}\n[retry_budget]\nratio = 0.0\nmin_per_second = 0.1\n"
    async with stage(always_fails, FINE, text=text) as (service, _):
        counted = []
        for pause_s in (0, 11, 1, 9):
            await trio.sleep(pause_s)
            counted.append(tries(await service.ask("cloud", prompts=CHAT)))
        # The pauses between two tries are random, and they pay, too.
        assert counted[0] == 4
        assert min(counted[1], counted[3]) >= 2
        assert sum(counted) - len(counted) <= 3 + 0.1 * trio.current_time()


def registry() -> BreakerRegistry:
    return BreakerRegistry({"small": BreakerSettings()}, RetryBudget(RetryBudgetSettings()))


async def test_the_permit_of_a_closed_breaker_is_read_without_its_actor() -> None:
    mailbox: Mailbox[BreakerMessage] = Mailbox("breakers", 0)
    permits = Permits(mailbox, registry())
    assert isinstance(permits.closed("small"), Permit)
    assert isinstance(await permits.ask("small", is_retry=False), Permit)
    assert mailbox.refused_total == 0


async def test_a_retry_is_refused_while_the_actor_is_busy_or_off() -> None:
    mailbox: Mailbox[BreakerMessage] = Mailbox("breakers", 0)
    permits = Permits(mailbox, registry())
    busy = RungRefused(why="breakers_busy", retry_after_s=1.0, message="the mailbox of breakers holds 0 messages")
    assert await permits.ask("small", is_retry=True) == busy
    mailbox.close()
    off = RungRefused(why="breakers_busy", retry_after_s=1.0, message="the actor of the mailbox breakers is off")
    assert await permits.ask("small", is_retry=True) == off


@pytest.mark.parametrize(("ttft_s", "wakes"), [(None, False), (1.9, False), (2.0, True)])
async def test_a_slow_answer_may_open_the_breaker_and_wakes_the_actor(ttft_s: float | None, *, wakes: bool) -> None:
    settings = BreakerSettings(slow_after=Seconds(2))
    mailbox: Mailbox[BreakerMessage] = Mailbox("breakers", 8)
    permits = Permits(mailbox, BreakerRegistry({"small": settings}, RetryBudget(RetryBudgetSettings())))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.ready)
        await wait_all_tasks_blocked()
        permits.record("small", Permit(0), ok=True, is_retry=False, ttft_s=ttft_s)
        await wait_all_tasks_blocked()
        assert bool(nursery.child_tasks) is not wakes
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("ok", "probe", "wakes"), [(True, False, False), (None, False, False), (False, False, True), (True, True, True)]
)
async def test_only_what_may_change_a_breaker_wakes_the_actor(ok: bool | None, *, probe: bool, wakes: bool) -> None:
    mailbox: Mailbox[BreakerMessage] = Mailbox("breakers", 8)
    permits = Permits(mailbox, registry())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.ready)
        await wait_all_tasks_blocked()
        permits.record("small", Permit(0, probe), ok=ok, is_retry=False)
        await wait_all_tasks_blocked()
        assert bool(nursery.child_tasks) is not wakes
        nursery.cancel_scope.cancel()
    assert len(mailbox) == 1
