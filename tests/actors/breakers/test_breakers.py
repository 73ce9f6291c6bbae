"""Retries count in the budget that all share; without room in it the next rung is asked."""

from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.api.engine_status import EngineStatus
from actors.breakers.breakers import BreakerMessage, BreakerRegistry, Permits
from actors.kernel.actor import Mailbox
from config.model.routing import BreakerSettings, RetryBudgetSettings
from config.model.table import Seconds
from policies.fallback.fallback_machine import RungRefused
from policies.fallback.retry_budget import RetryBudget
from policies.model.load import Permit
from tests.actors.upstream.network import Asked
from tests.actors.upstream.test_upstream_actor import CHAT, FINE, config, outcomes, stage

FIVE_RETRIES = config().replace(
    '[[ladders.cloud-first]]\nto = "cloud"\nttft = "5s"',
    '[[ladders.cloud-first]]\nto = "cloud"\nretries = 5\nbreaker = { at_least = 1000 }',
)


async def always_fails(asked: Asked) -> None:
    await asked.status(500)


@pytest.mark.parametrize(("at_least", "expected"), [(0, 1), (1, 6)])
async def test_one_request_has_one_retry_at_a_time(autojump_clock, at_least: int, expected: int) -> None:
    text = f"{FIVE_RETRIES}\n[retry_budget]\nshare = 0.0\nat_least = {at_least}\n"
    async with stage(always_fails, FINE, text=text) as (service, network):
        for round_ in (1, 2, 3):
            answer = await service.ask("cloud", prompts=CHAT)
            assert outcomes(answer)[-1][:2] == ("small", "answered")
            assert (("cloud", "refused", "retry_budget") in outcomes(answer)) is not at_least
            assert len(network.asked) == round_ * expected
        assert service.retries_running() == 0


# Of ten requests whose upstream fails at once, and is slow when it is asked again.
@pytest.mark.parametrize(
    ("share", "at_least", "expected"), [(0.0, 0, 0), (0.0, 3, 3), (0.2, 0, 2), (0.2, 3, 3), (0.5, 3, 5), (1.0, 0, 10)]
)
async def test_so_many_retries_run_at_the_same_time(autojump_clock, share, at_least, expected) -> None:
    calls = []

    async def serve(asked: Asked) -> None:
        calls.append(asked)
        if len(calls) > 10:
            await trio.sleep(20)
        await asked.status(500)

    text = FIVE_RETRIES.replace("retries = 5", "retries = 1")
    text = f"{text}\n[retry_budget]\nshare = {share}\nat_least = {at_least}\n"
    async with stage(serve, FINE, text=text) as (service, _):
        # All ten stay active.
        service.worker("small").step_s = 10.0
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(partial(service.ask, "cloud", prompts=CHAT))
            # So long is the longest pause before a retry.
            await trio.sleep(1.0)
            assert service.retries_running() == expected
        assert service.retries_running() == 0


async def test_a_retry_that_its_client_leaves_is_given_back(autojump_clock) -> None:
    async def hangs(asked: Asked) -> None:
        if len(network.asked) > 1:
            await trio.sleep_forever()
        await asked.status(500)

    async with stage(hangs, FINE, text=FIVE_RETRIES) as (service, network):
        with trio.move_on_after(5):
            await service.ask("cloud", prompts=CHAT)
        assert len(network.asked) == 2
        await trio.sleep(1)
        assert service.retries_running() == 0


def registry() -> BreakerRegistry:
    return BreakerRegistry({"small": BreakerSettings()}, RetryBudget(RetryBudgetSettings(), active=lambda: 0))


async def test_the_permit_of_a_closed_breaker_is_read_without_its_actor() -> None:
    mailbox: Mailbox[BreakerMessage] = Mailbox("breakers", 0)
    permits = Permits(mailbox, registry())
    assert isinstance(permits.closed("small"), Permit)
    assert isinstance(await permits.ask("small", is_retry=False), Permit)
    assert mailbox.refused_total == 0


def test_a_backend_that_is_down_has_no_such_permit() -> None:
    small = EngineStatus("small")
    budget = RetryBudget(RetryBudgetSettings(), active=lambda: 0)
    published = BreakerRegistry({"small": BreakerSettings()}, budget, {"small": small})
    assert isinstance(published.closed_permit("small"), Permit)
    small.down_until = 100.0
    assert published.closed_permit("small") is None
    assert published.view("small", 40.0).opens_for_s == 60.0


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
    permits = Permits(
        mailbox, BreakerRegistry({"small": settings}, RetryBudget(RetryBudgetSettings(), active=lambda: 0))
    )
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
