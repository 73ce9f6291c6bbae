"""Copies run beside the originals; whatever they do, nobody feels it but their own figures."""

from pathlib import Path

import trio
from structlog.testing import capture_logs

from config.source import ConfigSource
from engine.errors import EngineError
from policies.lifecycle.reload import Swapped
from policies.records.trace import read_trace
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


def view(service: Stage) -> ShadowView:
    return service.service.admin.shadows()["try"]


async def until_idle(service: Stage) -> None:
    while view(service).running:  # noqa: ASYNC110  (on the test's clock)
        await trio.sleep(0.1)


async def test_a_copy_is_answered_compared_and_paid_by_nobody(autojump_clock):
    async with stage({"small": says("the same"), "large": says("the same")}, settings=SHADOWED) as service:
        answer = await service.ask("small")
        assert answer.text() == "the same"
        await until_idle(service)
        figures = view(service)
        assert (figures.begun, figures.compared, figures.same_text, figures.same_length) == (1, 1, 1, 1)
        assert figures.original_seconds > 0 < figures.seconds
        # Good ends are written down in company.
        await trio.sleep(1)
        row = service.row("r1~try")
        assert (row["tenant"], row["route"], row["rung"], row["outcome"]) == (TENANT, "(shadow) try", "large", "ok")
        statistics = service.service.statistics()
        assert sum(statistics.requests_total.values()) == 1
        assert statistics.completion_tokens_total == answer.end.usage.completion_tokens
        assert TENANT not in service.quota_uses()
        assert service.quota_use().requests_total == 1


async def test_a_copy_is_no_arrival_in_a_recording(autojump_clock, tmp_path: Path):
    path = tmp_path / "recording.jsonl"
    async with stage({"small": says("a"), "large": says("a")}, settings=SHADOWED, record=path) as service:
        await service.ask("small")
        await until_idle(service)
        assert view(service).compared == 1
    assert [request.rung for request in read_trace(path)] == ["small"]


async def test_other_words_are_another_answer(autojump_clock):
    async with stage({"small": says("four"), "large": says("a much longer answer")}, settings=SHADOWED) as service:
        await service.ask("small")
        await until_idle(service)
        assert (view(service).compared, view(service).same_text, view(service).same_length) == (1, 0, 0)


async def test_a_copy_that_fails_is_felt_by_nobody(autojump_clock):
    async with stage({"small": says("ok", prompt=40)}, settings=SHADOWED, lengths={"large": 20}) as service:
        for _ in range(30):
            assert (await service.ask("small", text="x" * 40)).text() == "ok"
            await until_idle(service)
        assert (view(service).failed, view(service).compared) == (30, 0)
        assert service.row("r1~try")["outcome"] == "refused"
        breaker = service.breaker("large")
        assert (breaker.state, breaker.failed) == ("closed", 0)
        assert service.service.statistics().refusals_total == {}


async def test_a_copy_whose_engine_dies_is_felt_by_nobody(autojump_clock):
    def breaks(number, batch):
        raise EngineError("broken", "the large engine breaks when it is asked")

    async with stage({"small": says("ok"), "large": says("well")}, settings=SHADOWED) as service:
        service.on_step["large"] = breaks
        with capture_logs():
            assert (await service.ask("small")).text() == "ok"
            await until_idle(service)
        del service.on_step["large"]
        assert view(service).failed == 1
        # Nobody was refused by a breaker, and no retry was spent, when the engine came back.
        await trio.sleep(5)
        assert service.breaker("large").failed == 0
        assert (await service.ask("large")).text() == "well"


async def test_who_waits_goes_first(autojump_clock):
    async with stage({"small": says("short"), "large": says("long " * 40)}, settings=ONE_PLACE) as service:
        await service.ask("small")
        await trio.sleep(0.5)
        # The only places of the large engine (one runs, one is ahead) are taken by copies.
        await service.ask("small")
        assert view(service).running == 2
        began_at = trio.current_time()
        real = await service.open("large")
        first = await real.next_events()
        assert first
        assert trio.current_time() - began_at < 1.0
        real.close()
        await until_idle(service)
        assert view(service).cut >= 1


async def test_more_copies_than_allowed_are_not_made(autojump_clock):
    async with stage({"small": says("short"), "large": says("long " * 20)}, settings=SHADOWED) as service:
        for _ in range(5):
            assert (await service.ask("small")).text() == "short"
            assert view(service).running <= 2
        assert view(service).dropped["concurrent"] > 0
        await until_idle(service)


async def test_the_drain_ends_copies_at_once_and_closes_their_lines(autojump_clock):
    async with stage({"small": says("short"), "large": says("long " * 50)}, settings=SHADOWED) as service:
        await service.ask("small")
        await trio.sleep(0.3)
        assert view(service).running == 1
        began_at = trio.current_time()
        await service.service.drain(trio.current_time() + 30)
        assert trio.current_time() - began_at < 3
        row = service.row("r1~try")
        assert (row["outcome"], row["tenant"]) == ("gone", TENANT)
        assert row["closed_at"] is not None


async def test_a_client_that_leaves_leaves_no_pair(autojump_clock):
    async with stage({"small": says("slow " * 20), "large": says("fast")}, settings=SHADOWED) as service:
        running = await service.open("small")
        await running.next_events()
        await until_idle(service)
        running.close()
        assert not service.service._shadow_book._pairs
        assert view(service).compared == 0


async def test_a_shadow_that_is_taken_away_ends_what_it_began(autojump_clock, tmp_path: Path):
    file = tmp_path / "service.toml"
    _write(file, SHADOWED)
    async with stage({"small": says("short"), "large": says("long " * 20)}, source=ConfigSource(file)) as service:
        await service.ask("small")
        _write(file, CONFIG)
        assert isinstance(await service.service.admin.reload(), Swapped)
        assert (await service.ask("small")).text() == "short"
        assert view(service).begun == 1
        await until_idle(service)
        assert service.row("r1~try")["outcome"] == "ok"


def _write(file: Path, text: str) -> None:
    file.write_text(text)
