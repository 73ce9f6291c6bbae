"""Money follows the clock that the service is given."""

import trio

from tests.actors.fakes import CONFIG, says, stage

MIDDAY = 1_767_182_400.0
"""2025-12-31 12:00:00 UTC."""
HOURLY = """
[prices]
small = { input = 1_000_000, output = 1_000_000 }
[tenants.anonymous]
budget = { amount = 20, per = "hour", when_spent = "refuse" }
"""


async def test_a_budget_is_new_with_the_hour_of_the_services_clock(autojump_clock):
    began_at = trio.current_time()

    def wall() -> float:
        return MIDDAY + trio.current_time() - began_at

    async with stage({"small": says("ok")}, settings=CONFIG + HOURLY, wall=wall) as service:
        assert (await service.ask("small", max_tokens=10)).refusal is None
        refusal = (await service.ask("small", max_tokens=10)).refusal
        assert refusal.body.code == "budget_spent"
        assert 3590 < refusal.body.retry_after_s <= 3600
        await trio.sleep(3600)
        assert (await service.ask("small", max_tokens=10)).refusal is None
        await service.assert_clean()
        rows = service.rows()
        assert rows["r1"]["opened_at"].startswith("2025-12-31T12:00:0")
        assert rows["r3"]["closed_at"].startswith("2025-12-31T13:00:0")
        # A service that begins on the day's last hour knows nothing of it as money of the next.
        spent = service.workers.store_file.spent(wall())
        assert spent.by_tenant["anonymous"]["hour"] == rows["r3"]["cost"]
        assert spent.by_tenant["anonymous"]["day"] == rows["r1"]["cost"] + rows["r3"]["cost"]
