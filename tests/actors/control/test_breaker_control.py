"""Operators hold a breaker open or closed; through the HTTP API: tests/gateway/endpoints/test_admin_routes.py."""

import pytest
import trio

from actors.api.errors import Unavailable
from actors.breakers.breakers import BreakerMessage, BreakerRegistry, Breakers
from actors.control.breaker_control import BreakerControl
from actors.kernel.actor import Mailbox
from config.model.routing import BreakerSettings, RetryBudgetSettings
from policies.fallback.retry_budget import RetryBudget


def registry() -> BreakerRegistry:
    return BreakerRegistry({"small": BreakerSettings()}, RetryBudget(RetryBudgetSettings(), active=lambda: 0))


async def test_a_breaker_is_held_for_a_time(autojump_clock) -> None:
    mailbox: Mailbox[BreakerMessage] = Mailbox("breakers", 8)
    published = registry()
    control = BreakerControl(mailbox, published)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Breakers(mailbox, published).run)
        held = await control.force("small", "open", 60.0)
        assert held is not None
        assert (held.state, held.forced, held.forced_for_s) == ("open", "open", pytest.approx(60.0))
        await trio.sleep(61)
        assert (control.views()["small"].state, control.views()["small"].forced) == ("half_open", "none")
        assert await control.force("other", "open", 60.0) is None
        nursery.cancel_scope.cancel()


async def test_while_the_actor_is_busy_or_off_it_says_so() -> None:
    mailbox: Mailbox[BreakerMessage] = Mailbox("breakers", 0)
    control = BreakerControl(mailbox, registry())
    with pytest.raises(Unavailable, match="busy"):
        await control.force("small", "closed", 60.0)
