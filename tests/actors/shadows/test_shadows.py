"""Copies run beside the originals; whatever they do, nobody feels it but their own figures."""

from pathlib import Path

import trio
from structlog.testing import capture_logs

from config.source import ConfigSource
from engine.errors import EngineError
from policies.lifecycle.reload import Swapped
from policies.rollout.shadow import TENANT, ShadowView
from tests.actors.fakes import CONFIG, Stage, says, stage

SHADOW = """
[[shadows]]
name = "try"
route = ["small"]
to = "large"
share = 1.0
concurrent = 2
"""
SHADOWED = CONFIG + SHADOW
ONE_PLACE = SHADOWED.replace('model = "large"\nmax_running = 4', 'model = "large"\nmax_running = 1')


def view(house: Stage) -> ShadowView:
    return house.house.desk.shadows()["try"]


async def until_idle(house: Stage) -> None:
    while view(house).running:  # noqa: ASYNC110  (on the test's clock)
        await trio.sleep(0.1)


async def test_a_copy_is_answered_compared_and_paid_by_nobody(autojump_clock):
    async with stage({"small": says("the same"), "large": says("the same")}, settings=SHADOWED) as house:
        answer = await house.ask("small")
        assert answer.text() == "the same"
        await until_idle(house)
        figures = view(house)
        assert (figures.begun, figures.compared, figures.same_text, figures.same_length) == (1, 1, 1, 1)
        assert figures.original_seconds > 0 < figures.seconds
        # Good ends are written down in company.
        await trio.sleep(1)
        row = house.row("r1~try")
        assert (row["tenant"], row["route"], row["rung"], row["outcome"]) == (TENANT, "(shadow) try", "large", "ok")
        statistics = house.house.statistics()
        assert sum(statistics.requests_total.values()) == 1
        assert statistics.completion_tokens_total == answer.end.usage.completion_tokens
        quota = house.house._quota.statistics(trio.current_time())
        assert TENANT not in quota.tenants
        assert quota.tenants["anonymous"].requests_total == 1


async def test_other_words_are_another_answer(autojump_clock):
    async with stage({"small": says("four"), "large": says("a much longer answer")}, settings=SHADOWED) as house:
        await house.ask("small")
        await until_idle(house)
        assert (view(house).compared, view(house).same_text, view(house).same_length) == (1, 0, 0)


async def test_a_copy_that_fails_is_felt_by_nobody(autojump_clock):
    async with stage({"small": says("ok", prompt=40)}, settings=SHADOWED, lengths={"large": 20}) as house:
        for _ in range(30):
            assert (await house.ask("small", text="x" * 40)).text() == "ok"
            await until_idle(house)
        assert (view(house).failed, view(house).compared) == (30, 0)
        assert house.row("r1~try")["outcome"] == "refused"
        breaker = house.house._breakers.breakers["large"]
        assert (breaker.state, breaker.statistics().failed) == ("closed", 0)
        assert house.house.statistics().refusals_total == {}


async def test_a_copy_whose_engine_dies_is_felt_by_nobody(autojump_clock):
    def breaks(number, batch):
        raise EngineError("broken", "the large engine breaks when it is asked")

    async with stage({"small": says("ok"), "large": says("well")}, settings=SHADOWED) as house:
        house.on_step["large"] = breaks
        with capture_logs():
            assert (await house.ask("small")).text() == "ok"
            await until_idle(house)
        del house.on_step["large"]
        assert view(house).failed == 1
        # Nobody was refused by a breaker, and no retry was spent, when the engine came back.
        await trio.sleep(5)
        assert house.house._breakers.breakers["large"].statistics().failed == 0
        assert (await house.ask("large")).text() == "well"


async def test_who_waits_goes_first(autojump_clock):
    async with stage({"small": says("short"), "large": says("long " * 40)}, settings=ONE_PLACE) as house:
        await house.ask("small")
        await trio.sleep(0.5)
        # The only places of the large engine (one runs, one is ahead) are taken by copies.
        await house.ask("small")
        assert view(house).running == 2
        began_at = trio.current_time()
        real = await house.open("large")
        first = await real.__anext__()
        assert first
        assert trio.current_time() - began_at < 1.0
        real.close()
        await until_idle(house)
        assert view(house).cut >= 1


async def test_more_copies_than_allowed_are_not_made(autojump_clock):
    async with stage({"small": says("short"), "large": says("long " * 20)}, settings=SHADOWED) as house:
        for _ in range(5):
            assert (await house.ask("small")).text() == "short"
            assert view(house).running <= 2
        assert view(house).dropped["concurrent"] > 0
        await until_idle(house)


async def test_the_drain_ends_copies_at_once_and_closes_their_lines(autojump_clock):
    async with stage({"small": says("short"), "large": says("long " * 50)}, settings=SHADOWED) as house:
        await house.ask("small")
        await trio.sleep(0.3)
        assert view(house).running == 1
        began_at = trio.current_time()
        await house.house.drain(trio.current_time() + 30)
        assert trio.current_time() - began_at < 3
        row = house.row("r1~try")
        assert (row["outcome"], row["tenant"]) == ("gone", TENANT)
        assert row["closed_at"] is not None


async def test_a_client_that_leaves_leaves_no_pair(autojump_clock):
    async with stage({"small": says("slow " * 20), "large": says("fast")}, settings=SHADOWED) as house:
        running = await house.open("small")
        await running.__anext__()
        await until_idle(house)
        running.close()
        assert house.house._shadow_book.open_pairs == 0
        assert view(house).compared == 0


async def test_a_shadow_that_is_taken_away_ends_what_it_began(autojump_clock, tmp_path: Path):
    file = tmp_path / "house.toml"
    _write(file, SHADOWED)
    async with stage({"small": says("short"), "large": says("long " * 20)}, source=ConfigSource(file)) as house:
        await house.ask("small")
        _write(file, CONFIG)
        assert isinstance(await house.house.desk.reload(), Swapped)
        assert (await house.ask("small")).text() == "short"
        assert view(house).begun == 1
        await until_idle(house)
        assert house.row("r1~try")["outcome"] == "ok"


def _write(file: Path, text: str) -> None:
    file.write_text(text)
